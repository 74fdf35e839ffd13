"""What the documents list is what the code has."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from chunkspool import events
from chunkspool.settings import Settings, variable_of

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md has one row for each field: variable, default, meaning."""
    text = (DOCS / "settings.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| `CHUNKSPOOL", "| `OPENAI"))]
    expected = []
    for name, field in Settings.model_fields.items():
        default = f"{field.default:g}" if isinstance(field.default, float) else field.default
        shown = "" if default in (None, "") else f"`{default}`"
        expected.append(f"| `{variable_of(name)}` | {shown} | {field.description} |")
    assert rows == expected


def test_every_event_is_documented_with_its_fields() -> None:
    """docs/events.md has one row for each type, with its own fields in order."""
    text = (DOCS / "events.md").read_text()
    for model in get_args(events.Known):
        own = [name for name in model.model_fields if name not in {"type", "generation"}]
        fields = ", ".join(f"`{name}`" for name in own)
        row = f"| `{model.model_fields['type'].default}` | {fields} |"
        assert row.replace("|  |", "| |") in text
