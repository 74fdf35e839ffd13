"""Without a framework the rest works, and who asks for it learns which extra to install."""

from __future__ import annotations

import pickle
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

import chunkspool.integrations
from chunkspool.errors import ChunkspoolError, ExtraMissing
from chunkspool.integrations.extras import needs_extra

PROJECT = Path(__file__).parents[3]
WITHOUT = """
import sys
sys.modules[{package!r}] = None
import chunkspool.integrations
from chunkspool.errors import ExtraMissing
try:
    from chunkspool.integrations import {name}
except ExtraMissing as missing:
    print(missing.extra, "|", missing)
"""


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("stream_langchain", "langchain_core", "langchain"),
        ("langchain_provider", "langchain_core", "langchain"),
        ("astream_pydantic_ai", "pydantic_ai", "pydantic-ai"),
        ("stream_litellm", "litellm", "litellm"),
        ("litellm_provider", "openai", "litellm"),
    ],
)
def test_a_missing_framework_names_its_extra(name: str, package: str, extra: str) -> None:
    """When it is asked for, not before; and the extra is one that there is."""
    code = WITHOUT.format(name=name, package=package)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)  # noqa: S603 - our own code
    assert done.stdout.strip() == f"{extra} | {package} is not installed: pip install 'chunkspool[{extra}]'"
    assert extra in (metadata("chunkspool").get_all("Provides-Extra") or [])


def test_a_package_that_is_broken_is_not_missing() -> None:
    """Installing the extra again would not help."""
    with pytest.raises(ModuleNotFoundError, match="no_such_part") as raised, needs_extra("langchain", "langchain_core"):
        import no_such_part  # type: ignore[import-not-found]  # noqa: F401, PLC0415
    assert not isinstance(raised.value, ChunkspoolError)


def test_the_error_is_an_import_error_too() -> None:
    """Whoever guards an import guards this one; and it can be pickled."""
    missing = ExtraMissing("langchain", "langchain_core")
    assert isinstance(missing, ImportError)
    again = pickle.loads(pickle.dumps(missing))  # noqa: S301 - our own
    assert (str(again), again.extra) == (str(missing), "langchain")


def test_all_names_can_be_imported() -> None:
    """They are listed, and nothing else is there."""
    assert dir(chunkspool.integrations) == sorted(chunkspool.integrations.__all__)
    for name in chunkspool.integrations.__all__:
        assert (getattr(chunkspool.integrations, name).__doc__ or "").strip(), name
    with pytest.raises(AttributeError, match="stream_langchian"):
        _ = chunkspool.integrations.stream_langchian  # type: ignore[attr-defined]
