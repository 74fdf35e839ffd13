"""The question which rights are missing executes nothing, also where a server has no transactions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from chunkspool.store.rights import Probe, missing_rights

PROBES = (Probe(("EXEC",)), Probe(("GET", "k"), "~k"), Probe(("LPUSH", "k", "1"), "~k"))


class Server:
    """Replies to the commands of one client; `refused` are its errors."""

    def __init__(self, **refused: Exception) -> None:
        """Begin with nothing heard."""
        self.heard: list[str] = []
        self._refused = refused

    def client(self) -> Any:
        """Return what `missing_rights` uses of a client."""
        connection = SimpleNamespace(send_command=self._send, read_response=self._reply, disconnect=lambda: None)
        pool = SimpleNamespace(get_connection=lambda: connection, release=lambda _one: None)
        return SimpleNamespace(connection_pool=pool)

    def _send(self, *words: str) -> None:
        self.heard.append(words[0])

    def _reply(self) -> str:
        if error := self._refused.get(self.heard[-1]):
            raise error
        return "QUEUED"


@pytest.mark.parametrize(
    ("error", "missing"),
    [
        (NoPermissionError("this user has no permissions to run the 'multi' command"), ("+multi",)),
        (ResponseError("unknown command 'MULTI'"), ()),
    ],
)
def test_without_a_transaction_nothing_is_sent(error: Exception, missing: tuple[str, ...]) -> None:
    """The commands of the question would be executed: a proxy may not know MULTI, and a user may lack it."""
    server = Server(MULTI=error)
    assert missing_rights(server.client(), PROBES) == missing
    assert server.heard == ["EXEC", "MULTI"]


def test_what_is_refused_is_told_once() -> None:
    """The command's rule where the command is refused, the key's where the key is; other errors mean nothing."""
    server = Server(
        EXEC=ResponseError("EXEC without MULTI"),
        GET=NoPermissionError("No permissions to access a key"),
        LPUSH=NoPermissionError("User x has no permissions to run the 'lpush' command"),
    )
    assert missing_rights(server.client(), (*PROBES, *PROBES)) == ("~k", "+lpush")
