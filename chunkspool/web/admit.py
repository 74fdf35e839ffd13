"""The hook that sees each generation that a web user asks for, and returns it as it shall be."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol

from starlette.requests import Request

from chunkspool.admission.asked import AskedGeneration


class Admit(Protocol):
    """Decides what a worker is asked when a user asks for `asked`. It may be async.

    Return `asked`, or another one made of it: what is returned is enqueued as it is. Raise `Refused` with a text for
    the user (422), or Starlette's `HTTPException` for another status. It is asked after `authorize` has allowed "ask".

    For the same `asked` return the same value: a request that is repeated with its id must be the same request.
    """

    def __call__(
        self, request: Request, tenant: str, chat_id: str, asked: AskedGeneration
    ) -> AskedGeneration | Awaitable[AskedGeneration]:
        """Decide."""
        ...


def admit_all(request: Request, tenant: str, chat_id: str, asked: AskedGeneration) -> AskedGeneration:  # noqa: ARG001 - a hook's signature
    """Let everything pass to the provider: for users who may do whatever the app may."""
    return asked
