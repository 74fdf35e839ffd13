"""Finds what of a conversation a log does not have yet. Pure.

A request may hold all of a conversation, the end of it, or its last message alone; its texts may differ from those in
the log, because apps add to them and shorten them. What the log has is known by the keys of its newest messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Spoken(NamedTuple):
    """A message: who says it, the `key` by which the log would know it, and whether it calls tools.

    `is_shown`: a client has changed it, its tools have run, say, and the answer extends it.
    """

    role: str
    key: str = ""
    has_calls: bool = False
    is_shown: bool = False


def find_new(spoken: Sequence[Spoken], recent: Sequence[str]) -> list[int]:
    """Return the places of the messages that a log lacks which got messages with the keys `recent` last.

    The last question counts as new, for who asks the same again wants another answer; unless tools have answered it.
    """
    known = _find_known(spoken, recent)
    if known is None:
        return list(range(find_question(spoken), len(spoken)))
    after = range(known + 1, len(spoken))
    following = next((at for at in after if spoken[at].role == "user"), len(spoken))
    # Up to the last message of the assistant, this is the answer, which the log has; what tools say after it is new.
    answer = max((at for at in range(known, following) if spoken[at].role == "assistant"), default=known)
    if answer == len(spoken) - 1 and spoken[answer].is_shown:
        answer -= 1
    seen = set(recent) if following < len(spoken) else set()
    outputs = [at for at in range(answer + 1, following) if spoken[at].key not in seen]
    return [*outputs, *range(following, len(spoken))]


def find_question(spoken: Sequence[Spoken]) -> int:
    """Return where the newest question begins, if nothing is known of the log: the user's last, and what belongs to it.

    That is what the user has said directly before it, and the outputs of tools with the calls that they are of.
    """
    if spoken and spoken[-1].is_shown and spoken[-1].role != "user":
        return _behind_the_assistant(spoken)
    begin = max((at for at, one in enumerate(spoken) if one.role == "user"), default=-1)
    if begin < 0:
        return _behind_the_assistant(spoken) if spoken and spoken[-1].role != "assistant" else 0
    while begin > 0 and (spoken[begin - 1].role in {"user", "tool"} or spoken[begin - 1].has_calls):
        begin -= 1
    return begin


def _behind_the_assistant(spoken: Sequence[Spoken]) -> int:
    last = max((at for at, one in enumerate(spoken) if one.role == "assistant"), default=-1)
    # If the last of all is the assistant's, a client has changed it: its tools have run, say.
    return last if last == len(spoken) - 1 else last + 1


def _find_known(spoken: Sequence[Spoken], recent: Sequence[str]) -> int | None:
    """Return the place of the user's message that the log got last; None if the request does not have it."""
    asked = [at for at, one in enumerate(spoken) if one.role == "user"]
    if asked and all(
        spoken[at].role == "assistant" and not spoken[at].is_shown for at in range(asked[-1] + 1, len(spoken))
    ):
        asked.pop()
    keys = [spoken[at].key for at in asked]
    logged = [key for key in recent if key.startswith(USER)]
    runs = [_common_run(keys[:size], logged) for size in range(1, len(keys) + 1)]
    # Of equal texts, the one that fits the others; of those that fit equally, the first: nothing is to be lost.
    return asked[runs.index(max(runs))] if any(runs) else None


def _common_run(keys: Sequence[str], logged: Sequence[str]) -> int:
    """Return how many of the last ones are the same."""
    pairs = zip(reversed(keys), reversed(logged), strict=False)
    return next((size for size, (one, other) in enumerate(pairs) if one != other), min(len(keys), len(logged)))


USER = "u"
"""Begins the key of a user's message."""
