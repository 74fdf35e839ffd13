"""What is wrong with input that pydantic has refused, in plain words: one fault for each field. Without the input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

_LABELS: Final = frozenset(
    {"none", "str", "int", "float", "bool", "constrained-str", "constrained-int", "constrained-float"}
)
"""Names that pydantic puts behind a field for each type that it may have. Others have a bracket: `list[Message]`."""
_EXPECTED: Final = "Input should be "
_AN_ID: Final = "it must be an id: 1 to 128 of A-Z a-z 0-9 _ . : @ ~ + = -, and the first is none of . : @ ~ + ="

Place = tuple[int | str, ...]


def faults_of(errors: Sequence[Any]) -> list[tuple[Place, str]]:
    """Return where something is wrong, and what. `errors` are those of a `ValidationError`.

    Where a field may be of several types, what is wrong with each of them is one fault; if one of them fits but for
    something within it, that is the fault.
    """
    found: dict[Place, list[Mapping[str, Any]]] = {}
    for error in errors:
        # That a field may be absent as well, helps nobody who has sent it.
        if error["type"] != "none_required":
            found.setdefault(_place_of(error["loc"]), []).append(error)
    inner = {place[:size] for place in found for size in range(1, len(place))}
    return [(place, _explain(here)) for place, here in found.items() if place not in inner]


def _place_of(loc: Place) -> Place:
    return tuple(step for step in loc if not (isinstance(step, str) and (step in _LABELS or "[" in step)))


def _message_of(error: Mapping[str, Any]) -> str:
    if error["type"] == "string_pattern_mismatch":
        return "it must not be blank" if error["ctx"]["pattern"] == r"\S" else _AN_ID
    return str(error["msg"]).removeprefix("Value error, ")


def _explain(errors: Sequence[Mapping[str, Any]]) -> str:
    """Return what is wrong with one field: of a type that fits, if one does."""
    fitting = [error for error in errors if not error["type"].endswith(("_type", "_parsing"))]
    said = list(dict.fromkeys(map(_message_of, fitting or errors)))
    if all(message.startswith(_EXPECTED) for message in said):
        return _EXPECTED + " or ".join(message.removeprefix(_EXPECTED) for message in said)
    return said[0]
