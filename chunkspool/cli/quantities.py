"""Reads the limits and times that a person writes: `50`, `7d`, `64MB`. Pure."""

from __future__ import annotations

import re
from typing import Final

from chunkspool.errors import InvalidInput

DEFAULT: Final = "default"
_UNITS = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400}
_NUMBER = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")
_SIZES = {
    "": 1,
    "k": 1024,
    "kb": 1024,
    "mb": 1024**2,
    "m": 1024**2,
    "gb": 1024**3,
    "g": 1024**3,
    "tb": 1024**4,
    "t": 1024**4,
}


def parse_limit(name: str, text: str) -> int | float | None:
    """Return the value of a limit as a person writes it: `50`, `7d`, `64MB`; None for `default`.

    Raises `InvalidInput`.
    """
    if text == DEFAULT:
        return None
    units = _UNITS if name == "ttl" else _SIZES if name.endswith("bytes") else {"": 1}
    found = _NUMBER.fullmatch(text.strip().lower())
    if found is None or found[2] not in units:
        named = ", ".join(unit for unit in units if unit)
        raise InvalidInput(f"{name}={text!r}: write a number" + (f", with {named} behind it or not" if named else ""))
    value = float(found[1]) * units[found[2]]
    return value if name == "ttl" else round(value)


def parse_seconds(name: str, text: str) -> float:
    """Return a time as a person writes it. Raises `InvalidInput`."""
    value = parse_limit(name, text)
    if value is None:
        raise InvalidInput(f"{name}={text!r}: write a number, with {', '.join(filter(None, _UNITS))} behind it or not")
    return float(value)
