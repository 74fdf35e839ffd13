"""A framework's provider is one of the worker's, by an entry point: that of docs/how-to/tasks/frameworks.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.models.streams import collect

from chunkspool.errors import SettingsError
from chunkspool.provider import Finish, ModelRequest, Text
from chunkspool.settings import Settings
from chunkspool.tasks.providers import load_provider

DOCS = Path(__file__).parents[3] / "docs" / "how-to" / "tasks" / "frameworks.md"
ENTRY_POINT = "[chunkspool.providers]\nagent = my_agent:make_provider\n"


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the documented module, with the metadata that pip would write."""
    frameworks = DOCS.read_text()
    (module,) = (
        block for block in re.findall(r"```python\n(.*?)```", frameworks, re.DOTALL) if "make_provider" in block
    )
    (tmp_path / "my_agent.py").write_text(module)
    info = tmp_path / "my_agent-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-agent\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINT)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("own_package")
async def test_the_documented_provider_answers() -> None:
    """The worker loads it by the name of its entry point."""
    provider = load_provider(Settings.checked({"provider": "agent"}))
    said = await collect(provider.stream(ModelRequest(({"role": "user", "content": "Hi"},))))
    assert said == ([Text("Hello!"), Finish("stop")], None)
    await provider.aclose()


@pytest.mark.usefixtures("own_package")
def test_it_cannot_continue() -> None:
    """A framework would begin its text anew, so the worker does not start with that setting."""
    with pytest.raises(SettingsError, match="cannot continue a text"):
        load_provider(Settings.checked({"provider": "agent", "recovery": "continue"}))
