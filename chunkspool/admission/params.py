"""The params that a web user may set unless the app says otherwise: those that only shape an answer, within bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from chunkspool.errors import Refused, shown

MAX_STOPS = 4
MAX_STOP_CHARS = 200
_SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True)
class AllowedParam:
    """A param that may be set; `values` says to what, in words."""

    allows: Callable[[JsonValue], bool]
    values: str


def allowed_params(max_tokens: int) -> Mapping[str, AllowedParam]:
    """Return the params that may be set, by name. An answer may be asked to have up to `max_tokens`."""
    tokens = _whole(1, max_tokens)
    return {
        "temperature": _number(0, 2),
        "top_p": _number(0, 1),
        "presence_penalty": _number(-2, 2),
        "frequency_penalty": _number(-2, 2),
        "max_tokens": tokens,
        "max_completion_tokens": tokens,
        # More answers cost more, and only the first one is read.
        "n": _whole(1, 1),
        "seed": _whole(-(2**63), 2**63 - 1),
        "stop": AllowedParam(_is_stop, f"a text, or up to {MAX_STOPS} of them, of 1 to {MAX_STOP_CHARS} characters"),
        "reasoning_effort": _one_of("none", "minimal", "low", "medium", "high"),
        # Not a schema of the user's own: some servers take minutes to compile one.
        "response_format": _one_of({"type": "text"}, {"type": "json_object"}),
    }


def checked_params(params: Mapping[str, JsonValue], allowed: Mapping[str, AllowedParam]) -> dict[str, JsonValue]:
    """Return what is set of `params`; null means that it is not. Raises `Refused`."""
    unknown = [name for name in params if name not in allowed]
    if unknown:
        names = ", ".join(shown(name) for name in unknown[:_SHOWN_NAMES])
        more = f" and {len(unknown) - _SHOWN_NAMES} more" if len(unknown) > _SHOWN_NAMES else ""
        raise Refused(f"params may not have {names}{more}; they may have {', '.join(allowed)}")
    kept: dict[str, JsonValue] = {name: value for name, value in params.items() if value is not None}
    for name, value in kept.items():
        if not allowed[name].allows(value):
            raise Refused(f"params.{name} is {shown(value)}; it may be {allowed[name].values}")
    return kept


def _number(least: float, most: float) -> AllowedParam:
    def allows(value: JsonValue) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return AllowedParam(allows, f"a number from {least:g} to {most:g}")


def _whole(least: int, most: int) -> AllowedParam:
    def allows(value: JsonValue) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most

    return AllowedParam(allows, str(least) if least == most else f"a whole number from {least} to {most}")


def _one_of(*values: JsonValue) -> AllowedParam:
    return AllowedParam(lambda value: value in values, " or ".join(map(repr, values)))


def _is_stop(value: JsonValue) -> bool:
    texts = value if isinstance(value, list) else [value]
    fit = all(isinstance(text, str) and 1 <= len(text) <= MAX_STOP_CHARS for text in texts)
    return fit and 1 <= len(texts) <= MAX_STOPS
