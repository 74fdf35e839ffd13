"""Writes JSON that every parser takes: the one gate through which what models and apps say leaves as JSON."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json


def to_valid_json(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8.

    What JSON cannot hold becomes what it can: two halves of a surrogate pair their character (models split them between
    tokens), a lone half U+FFFD, a number that is infinite or none null.
    """
    try:
        return to_json(value, inf_nan_mode="null")
    except PydanticSerializationError:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        mended = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return to_json(from_json(mended), inf_nan_mode="null")
