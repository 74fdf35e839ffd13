"""The door to what the logs of a tenant and of an owner take together; see lua/sizes_prelude.lua."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from chunkspool.store.commands import Arg, ScriptCall
from chunkspool.store.keys import SIZES_DUE
from chunkspool.store.log_size import LogSize
from chunkspool.store.scripts import load

EXPIRED_AT_ONCE: Final = 250
"""Logs that have expired and that one script takes out of the sums."""


def count_sizes(
    tenant: str, sizes: Sequence[tuple[str, LogSize]], *, expired: int = 0, owner_hash: str = ""
) -> ScriptCall[int]:
    """Note what the logs of a few chats take, and take up to `expired` that are over out, of whichever tenant.

    `owner_hash`: whose the chats are, `NOBODY` for nobody; "" where only Redis knows. Returns how many were taken out.
    """
    args: list[Arg] = [tenant, expired, owner_hash]
    for chat_id, size in sizes:
        args += [chat_id, size.words]
    return ScriptCall(load("count_sizes"), (SIZES_DUE,), tuple(args), lambda reply: int(reply[0]))
