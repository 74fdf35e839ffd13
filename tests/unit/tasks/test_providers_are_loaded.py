"""The provider that the settings name is loaded, or an error at the worker's start says what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chunkspool.errors import SettingsError
from chunkspool.settings import Settings
from chunkspool.tasks.providers import load_provider
from chunkspool.tasks.providers.openai_api import OpenAIProvider
from chunkspool.tasks.providers.scripted import ScriptedProvider

MODULE = '''
from chunkspool.errors import SettingsError

class Echo:
    """The shortest provider."""
    def __init__(self, settings):
        self.tenant = settings.log.tenant
    async def stream(self, request):
        yield None
    async def aclose(self):
        pass

def without_its_key(settings):
    raise SettingsError("ECHO_KEY is not set")

def broken(settings):
    raise OSError("no such device")

def half(settings):
    return object()

number = 7
'''
ENTRY_POINTS = """
[chunkspool.providers]
echo = own_provider_of_a_test:Echo
absent = no_such_module_anywhere:Echo
misnamed = own_provider_of_a_test:Ecco
keyless = own_provider_of_a_test:without_its_key
broken = own_provider_of_a_test:broken
half = own_provider_of_a_test:half
number = own_provider_of_a_test:number
scripted = own_provider_of_a_test:Echo
"""


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with providers of its own: a module and the metadata that pip would write."""
    (tmp_path / "own_provider_of_a_test.py").write_text(MODULE)
    info = tmp_path / "own_provider-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-provider\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(tmp_path)
    # The next test must import its own copy.
    monkeypatch.delitem(sys.modules, "own_provider_of_a_test", raising=False)


def settings(provider: str, **values: object) -> Settings:
    """Return settings that name this provider."""
    return Settings.checked({"provider": provider, **values})


def test_the_built_in_ones_need_no_entry_point() -> None:
    """openai_api is the default."""
    assert isinstance(load_provider(Settings.checked({"openai_api_key": "k"})), OpenAIProvider)
    assert isinstance(load_provider(settings("scripted")), ScriptedProvider)


@pytest.mark.usefixtures("own_package")
def test_an_own_provider_is_found_by_its_entry_point() -> None:
    """It is created with the settings."""
    provider = load_provider(settings("echo", tenant="t1"))
    assert (type(provider).__name__, provider.tenant) == ("Echo", "t1")


@pytest.mark.usefixtures("own_package")
def test_an_own_provider_cannot_take_a_built_in_name() -> None:
    """Installing a package must not replace `scripted`."""
    assert isinstance(load_provider(settings("scripted")), ScriptedProvider)


@pytest.mark.usefixtures("own_package")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("absent", "ModuleNotFoundError.*no_such_module_anywhere"),
        ("misnamed", "AttributeError.*Ecco"),
        ("broken", "no such device"),
        ("number", "TypeError.*not callable"),
        ("half", "gives an object of type object, which lacks `stream` or `aclose`"),
    ],
)
def test_an_own_provider_that_cannot_be_loaded_is_an_error(name: str, why: str) -> None:
    """Whatever its package raises, the message names the setting."""
    with pytest.raises(SettingsError, match=f"CHUNKSPOOL_PROVIDER='{name}'.*{why}"):
        load_provider(settings(name))


@pytest.mark.usefixtures("own_package")
def test_an_own_provider_may_reject_the_settings() -> None:
    """Its own message is shown."""
    with pytest.raises(SettingsError, match="^ECHO_KEY is not set$"):
        load_provider(settings("keyless"))


@pytest.mark.usefixtures("own_package")
def test_an_unknown_name_lists_the_available_ones() -> None:
    """Built-in providers come first."""
    with pytest.raises(
        SettingsError,
        match="'ekko': no such provider; available: openai_api, anthropic_api, litellm_api, scripted, absent",
    ):
        load_provider(settings("ekko"))


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "needs OPENAI_BASE_URL.*OPENAI_API_KEY.*or both"),
        ({"openai_base_url": "localhost:8080/v1"}, "OPENAI_BASE_URL must be a URL"),
        ({"openai_base_url": "http://"}, "OPENAI_BASE_URL must be a URL"),
        ({"openai_base_url": "http://host:port/v1"}, "OPENAI_BASE_URL must be a URL"),
        ({"openai_api_key": "sk-secret\n"}, "OPENAI_API_KEY has a space, a line break"),
        ({"openai_api_key": "sk-sécret"}, "OPENAI_API_KEY has a space, a line break"),
    ],
)
def test_openai_api_says_which_setting_is_wrong(values: dict[str, object], why: str) -> None:
    """At the worker's start, and without showing the key."""
    with pytest.raises(SettingsError, match=why) as caught:
        load_provider(settings("openai_api", **values))
    assert "secret" not in str(caught.value)


def test_the_sdk_is_loaded_only_where_it_is_used() -> None:
    """It is large. If it is missing, the message says what to install."""
    code = (
        "import sys; sys.modules['openai'] = None\n"
        "from chunkspool.settings import Settings\n"
        "from chunkspool.tasks.providers import load_provider\n"
        "load_provider(Settings.checked({'provider': 'scripted'}))\n"
        "load_provider(Settings.checked({'openai_api_key': 'k'}))\n"
    )
    project = Path(__file__).parents[3]
    run = subprocess.run([sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    assert "SettingsError: the provider openai_api needs openai: pip install '.[worker]'" in run.stderr
