"""The documentation matches the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from chunkspool import events
from chunkspool.provider import Finish, ModelRequest, Text, Usage
from chunkspool.settings import GROUP_OF, Settings, variable_of
from tasks.providers import load_provider
from tasks.providers.failures import ASKED_AGAIN, RETRYABLE, Code
from tasks.providers.scripted import ScriptStep

DOCS = Path(__file__).parents[2] / "docs"


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/settings.md has one row for each field: variable, default, meaning."""
    text = (DOCS / "settings.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| `CHUNKSPOOL", "| `OPENAI"))]
    expected = []
    for name, group in GROUP_OF.items():
        field = type(getattr(Settings(), group)).model_fields[name]
        default = f"{field.default:g}" if isinstance(field.default, float) else field.default
        shown = "" if default in (None, "") else f"`{default}`"
        expected.append(f"| `{variable_of(name)}` | {shown} | {field.description} |")
    assert rows == expected


def test_every_event_is_documented_with_its_fields() -> None:
    """docs/events.md has one row for each type, with its own fields in order."""
    text = (DOCS / "events.md").read_text()
    for model in get_args(events.Known):
        own = [name for name in model.model_fields if name not in {"type", "generation_id"}]
        fields = ", ".join(f"`{name}`" for name in own)
        row = f"| `{model.model_fields['type'].default}` | {fields} |"
        assert row.replace("|  |", "| |") in text


def test_every_failure_of_a_provider_is_documented() -> None:
    """docs/providers.md has one row per code and states correctly whether it is retryable and retried."""
    table = (DOCS / "providers.md").read_text().partition("### Failures")[2].partition("## scripted")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \| (yes|no) \|$", table, re.MULTILINE)
    answer = {True: "yes", False: "no"}
    assert rows == [(code.value, answer[code in RETRYABLE], answer[code in ASKED_AGAIN]) for code in Code]


def test_every_step_of_a_script_is_documented_as_it_can_be_written() -> None:
    """The rows in docs/providers.md are valid steps, one for each kind."""
    table = (DOCS / "providers.md").read_text().partition("## scripted")[2].partition("## Your own")[0]
    steps = [
        ScriptStep.model_validate_json(row) for row in re.findall(r"^\| `(\{.+\})` \| .+ \|$", table, re.MULTILINE)
    ]
    assert {kind for step in steps for kind in step.model_fields_set} == set(ScriptStep.model_fields) - {"repeat"}


def test_every_failure_mode_names_tests_that_exist() -> None:
    """Each row of docs/failure-modes.md names at least one test; `…` stands for the file named last."""
    rows = re.findall(r"^\| .+ \| (.+) \|$", (DOCS / "failure-modes.md").read_text(), re.MULTILINE)[1:]
    tests, file = DOCS.parent / "tests", Path()
    for row in rows:
        named = re.findall(r"`([^`]+)`", row)
        assert named, f"no test: {row}"
        for path, _, function in (one.partition("::") for one in named if not one.startswith("make ")):
            file = file if path == "…" else tests / path
            assert file.is_file(), path
            assert f"def {function}" in file.read_text(), f"{path}::{function}"


async def test_the_documented_own_provider_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class and entry point shown in docs/providers.md work verbatim in an installed package."""
    own = (DOCS / "providers.md").read_text().partition("## Your own")[2]
    (code,) = re.findall(r"```python\n(.+?)```", own, re.DOTALL)
    (toml,) = re.findall(r"```toml\n(.+?)```", own, re.DOTALL)
    ((group, points),) = tomllib.loads(toml)["project"]["entry-points"].items()
    (tmp_path / "shout.py").write_text(code)
    info = tmp_path / "shout-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shout\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    monkeypatch.syspath_prepend(tmp_path)
    provider = load_provider(Settings.checked({"provider": "shout", "model": "very-loud"}))
    said = [delta async for delta in provider.stream(ModelRequest(({"role": "user", "content": "good morning"},)))]
    assert said == [Text("GOOD! "), Text("MORNING! "), Usage(2, 2), Finish("stop")]
    await provider.aclose()
