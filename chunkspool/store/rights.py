"""Rights of a Redis user: which one a refusal means, and which ones of a list are missing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import redis
from redis.exceptions import NoPermissionError, ResponseError

from chunkspool.errors import RightMissing
from chunkspool.store import scripts
from chunkspool.store.commands import Command, ScriptCall, Transaction

OF_SCRIPTS = "+@read +@write +publish +time"
"""What is asked for where a script does not say which of its commands was refused."""
_CHANNEL = re.compile(r"(access|publish to) (a|the|one of the) channel")
_KEY = re.compile(r"access (a|at least one of the|one of the) key")
_COMMAND = re.compile(r"run the '([^']+)' command")
_IN_SCRIPT = re.compile(r"script: ([0-9a-f]{40}), on @user_script:(\d+)")
_CALL = re.compile(r"(?:redis\.p?call|\bcall)\('([A-Z]+)'")


def explain_refusal(text: str) -> RightMissing:
    """Return the error for a refusal of the server that holds the logs, with the right that it means."""
    if _CHANNEL.search(text):
        missing, right = "may not use chunkspool's channels", "&cs:*"
    elif _KEY.search(text):
        missing, right = "may not use chunkspool's keys", "~cs:*"
    elif "EXEC without MULTI" in text:
        missing, right = "may not run transactions", "+multi +exec"
    elif names := [found[1]] if (found := _COMMAND.search(text)) else _commands_at(text):
        what = "the command" if len(names) == 1 else "one of the commands"
        missing, right = f"may not run {what} {', '.join(names)}", " ".join(f"+{name}" for name in names)
    else:
        missing, right = "may not run a command of chunkspool's scripts", OF_SCRIPTS
    told = f"Redis rejected the connection's user, who {missing}; write {right} into its ACL: {text}"
    return RightMissing(told, right)


def is_unnamed(error: Exception) -> bool:
    """Tell whether a script was refused a command without a word on which: Redis 7.0 forgets the line of a pcall."""
    text = str(error)
    return "executing the script can't run this command" in text and not _commands_at(text)


def never_executed(call: ScriptCall[Any]) -> Transaction[None]:
    """Return a transaction with a command of each kind in the script; Redis names the first that the user may not run.

    It is never executed: its last command lacks its arguments, so Redis discards the whole.
    """
    names = set(_CALL.findall(call.script.text))
    # A channel's name begins as a key's does, and the same rules hold.
    others: tuple[Command, ...] = (("TIME",), ("PUBLISH", call.keys[0], ""))
    commands = [words for words in (*others, *(one.words for one in log_commands(call.keys[0]))) if words[0] in names]
    return Transaction((*commands, ("GET",)), lambda _replies: None)


@contextmanager
def suppress_all_but_refusals() -> Iterator[None]:
    """Let only what names a right through: what was never executed fails in any case, at its own last command."""
    try:
        yield
    except NoPermissionError:
        raise
    except ResponseError:
        return


def log_commands(key: str) -> tuple[Probe, ...]:
    """Return a command of each kind that scripts and reads send about a key of a log, in its simplest form."""
    return tuple(
        Probe(tuple(key if word == "k" else word for word in text.split()), LOG_KEYS) for text in _LOG_COMMANDS
    )


LOG_KEYS = "~cs:*"
_LOG_COMMANDS = (
    *("GET k", "SET k 1", "DEL k", "UNLINK k", "EXISTS k", "EXPIRE k 1", "PEXPIRE k 1", "PTTL k", "RENAME k k"),
    *("INCRBY k 1", "DECRBY k 1", "HGET k f", "HMGET k f", "HSET k f 1", "HSETNX k f 1", "HDEL k f", "HLEN k"),
    *(
        "HSCAN k 0",
        "HEXISTS k f",
        "HGETALL k",
        "MEMORY USAGE k",
        "XLEN k",
        "XADD k * f 1",
        "XRANGE k - +",
        "XREVRANGE k + -",
        "XTRIM k MINID 0",
        "LPUSH k 1",
        "LTRIM k 0 1",
        "ZADD k 1 m",
    ),
    *(
        "ZCARD k",
        "ZRANGE k 0 1",
        "ZREVRANGE k 0 1",
        "ZREM k m",
        "ZRANGEBYSCORE k 0 1",
        "ZCOUNT k 0 1",
        "ZPOPMIN k",
        "ZRANK k m",
        "ZSCORE k m",
    ),
)


def _commands_at(text: str) -> list[str]:
    """Return the commands in the line of our script that was refused: Redis 7.0 names the line, not the command."""
    where = _IN_SCRIPT.search(text)
    line = _lines_of(where[1])[int(where[2]) - 1 : int(where[2])] if where else ()
    return list(dict.fromkeys(name.lower() for one in line for name in _CALL.findall(one)))


@cache
def _lines_of(sha: str) -> tuple[str, ...]:
    names = [path.name.removesuffix(".lua") for path in (files("chunkspool.store") / "lua").iterdir()]
    loaded = (scripts.load(name) for name in names if not name.endswith("prelude"))
    return next((tuple(script.text.split("\n")) for script in loaded if script.sha == sha), ())


@dataclass(frozen=True, slots=True)
class Probe:
    """A command that some process sends; `place` is the rule for its key or channel, such as "~cs:*", if it has one."""

    words: Command
    place: str = ""

    @property
    def rule(self) -> str:
        """The rule for the command itself."""
        name, *rest = (str(word).lower() for word in self.words)
        return f"+{name}|{rest[0]}" if name in {"memory", "script"} else f"+{name}"


NOT_QUEUED = frozenset({"EXEC", "WATCH", "UNWATCH"})
"""Commands that a transaction does not hold; none of them changes anything outside one."""


def missing_rights(client: redis.Redis, probes: Sequence[Probe]) -> tuple[str, ...]:
    """Return the rules that the client's user lacks, in the order of `probes`. Raises redis-py's errors.

    Nothing is executed: Redis checks the rights when a command is put into a transaction, and this one is never run.
    """
    alone = [one for one in probes if one.words[0] in NOT_QUEUED]
    queued = [one for one in probes if one.words[0] not in NOT_QUEUED]
    return tuple(dict.fromkeys([*_refused(client, alone), *_refused(client, [Probe(("MULTI",)), *queued])]))


def _refused(client: redis.Redis, probes: Sequence[Probe]) -> Iterator[str]:
    """Send all on one connection; yield the rules that were refused. Closing it discards the transaction."""
    pool: Any = client.connection_pool
    connection = pool.get_connection()
    try:
        for one in probes:
            connection.send_command(*one.words)
            try:
                connection.read_response()
            except ResponseError as error:
                # Of other errors there are many here: what is sent may be sent, and makes no sense, as intended.
                if isinstance(error, NoPermissionError) or "NOPERM" in str(error):  # EXEC says EXECABORT
                    yield from _rules_of(one, str(error))
                if one.words[0] == "MULTI":
                    return  # without a transaction, what follows would be executed
    finally:
        with suppress(OSError):
            connection.disconnect()
        pool.release(connection)


def _rules_of(probe: Probe, text: str) -> Iterable[str]:
    return (probe.place,) if _CHANNEL.search(text) or _KEY.search(text) else (probe.rule,)
