"""The documentation matches the code."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from starlette.exceptions import HTTPException

from chunkspool import AsyncSpool, errors, events
from chunkspool.provider import Finish, ModelRequest, Text, Usage
from chunkspool.settings import GROUP_OF, Settings, variable_of
from chunkspool.store import keys
from chunkspool.tasks.providers import load_provider
from chunkspool.tasks.providers.failures import ASKED_AGAIN, RETRYABLE, Code
from chunkspool.tasks.providers.scripted import ScriptStep
from chunkspool.web import AccessDenied, Refused, allow_all, create_app
from chunkspool.web.problems import problem_of

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")] + sorted(
    DOCS.rglob("*.md")
)
LIBRARY = PROJECT / "chunkspool"


def test_every_setting_is_documented_with_its_default() -> None:
    """docs/reference/settings.md has one row for each field: variable, default, meaning."""
    text = (REFERENCE / "settings.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith(("| `CHUNKSPOOL", "| `OPENAI", "| `ANTHROPIC"))]
    expected = []
    for name, group in GROUP_OF.items():
        field = type(getattr(Settings(), group)).model_fields[name]
        default = f"{field.default:g}" if isinstance(field.default, float) else field.default
        shown = "" if default in (None, "") else f"`{default}`"
        expected.append(f"| `{variable_of(name)}` | {shown} | {field.description} |")
    assert rows == expected


def test_every_event_is_documented_with_its_fields() -> None:
    """docs/reference/events.md has one row for each type, with its own fields in order."""
    text = (REFERENCE / "events.md").read_text()
    for model in get_args(events.Known):
        own = [name for name in model.model_fields if name not in {"type", "generation_id"}]
        fields = ", ".join(f"`{name}`" for name in own)
        row = f"| `{model.model_fields['type'].default}` | {fields} |"
        assert row.replace("|  |", "| |") in text


def test_every_failure_of_a_provider_is_documented() -> None:
    """docs/reference/providers.md has one row per code and states correctly whether it is retryable and retried."""
    table = (REFERENCE / "providers.md").read_text().partition("### Failures")[2].partition("## scripted")[0]
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (yes|no) \| (yes|no) \|$", table, re.MULTILINE)
    answer = {True: "yes", False: "no"}
    assert rows == [(code.value, answer[code in RETRYABLE], answer[code in ASKED_AGAIN]) for code in Code]


def test_every_step_of_a_script_is_documented_as_it_can_be_written() -> None:
    """The rows in docs/reference/providers.md are valid steps, one for each kind."""
    table = (REFERENCE / "providers.md").read_text().partition("## scripted")[2]
    steps = [
        ScriptStep.model_validate_json(row) for row in re.findall(r"^\| `(\{.+\})` \| .+ \|$", table, re.MULTILINE)
    ]
    assert {kind for step in steps for kind in step.model_fields_set} == set(ScriptStep.model_fields) - {"repeat"}


def test_every_failure_mode_names_tests_that_exist() -> None:
    """Each row of the pages in docs/failure-modes names at least one test; `…` stands for the file named last."""
    for page in sorted((DOCS / "failure-modes").glob("*.md")):
        rows = re.findall(r"^\| .+ \| (.+) \|$", page.read_text(), re.MULTILINE)[1:]
        assert rows or page.name == "README.md", page
        for row in rows:
            assert re.search(r"`([^`]+)`", row), f"no test: {row}"
        assert_tests_exist(rows)


def test_every_promise_names_tests_that_exist() -> None:
    """docs/concepts/promises.md has each promise of the README, by its name, and the tests of each exist."""
    promised = re.findall(r"^\| (\d+) \*\*(.+?)\*\* \|", (PROJECT / "README.md").read_text(), re.MULTILINE)
    page = (DOCS / "concepts" / "promises.md").read_text()
    shown = re.findall(r"^## (\d+)\. (.+)$", page, re.MULTILINE)
    assert shown == promised
    sections = page.split("\n## ")[1:]
    assert len(sections) == len(promised) == 12
    for section in sections:
        rows = re.findall(r"^\* .+?: (`.+`)$", section, re.MULTILINE)
        assert rows, f"no test: {section}"
        assert_tests_exist(rows)


def assert_tests_exist(rows: list[str]) -> None:
    """Assert that each test exists which is named in `rows`, by its file and perhaps its function."""
    tests, file = PROJECT / "tests", Path()
    for row in rows:
        named = [one for one in re.findall(r"`([^`]+)`", row) if not one.startswith("make ")]
        for path, _, function in (one.partition("::") for one in named):
            file = file if path == "…" else tests / path
            assert file.is_file(), path
            assert f"def {function}" in file.read_text(), f"{path}::{function}"


ERRORS: tuple[Exception, ...] = (
    errors.InvalidCursor("x"),
    errors.CursorAhead(2, 1),
    HTTPException(400, "two names of one thing"),
    AccessDenied("no token"),
    HTTPException(403, "not allowed"),
    errors.ChatNotFound("c"),
    errors.GenerationNotFound("c", "g"),
    errors.ChatBusy("c", ("g",)),
    errors.LimitExceeded("active", "32 are active", retry_after=1),
    errors.ChatContended("c", "be erased"),
    errors.ChatExists("c"),
    errors.CursorExpired(1, 3, 4),
    errors.DigestUnfinished("c", 1, 2),
    errors.RequestTooLarge(2, 1),
    errors.RequestIdReused("c", "r", "g"),
    HTTPException(408, "too slow"),
    HTTPException(413, "too large"),
    HTTPException(415, "no JSON"),
    HTTPException(421, "another host"),
    errors.InvalidId("chat_id", ""),
    Refused("not this model"),
    errors.InternalError("a bug"),
    errors.CorruptLog(1, "no JSON"),
    errors.StoreUnavailable("away"),
    errors.StoreFull("full"),
    errors.StoreBusy("many"),
    errors.StoreRefused("no"),
    errors.RightMissing("no", "+get"),
    errors.EnqueueFailed("c", "g", "away"),
    errors.BrokerRefused("c", "g", "no"),
    errors.ServerShuttingDown(),
    errors.SpoolClosed(),
    errors.SettingsError("unset"),
)


def test_every_problem_of_the_routes_is_documented() -> None:
    """docs/reference/errors.md has the status, the kind and the fields of each, and nothing that cannot happen."""
    table = (REFERENCE / "errors.md").read_text().partition("## Problems")[2].partition("\n## ")[0]
    documented = {
        (int(status), kind): set(re.findall(r"\w+", fields))
        for statuses, kinds in re.findall(r"^\| ([\d, ]+) \| (`[a-z].+?) \|", table, re.MULTILINE)
        for status, (kind, fields) in _pairs(statuses, re.findall(r"`([a-z-]+)`(?: `\{(.+?)\}`)?", kinds))
    }
    real = {(problem.status, problem.kind): set(problem.more) for problem in map(problem_of, ERRORS)}
    assert set(documented) == set(real)
    for at, fields in real.items():
        assert fields <= documented[at], at


def _pairs(statuses: str, kinds: list[tuple[str, str]]) -> list[tuple[str, tuple[str, str]]]:
    """Return each kind with its status; one status stands for all kinds of its row."""
    each = statuses.split(", ")
    return list(zip(each if len(each) == len(kinds) else each * len(kinds), kinds, strict=True))


def test_every_route_is_documented() -> None:
    """docs/reference/http.md names the method and the path of each."""
    table = (REFERENCE / "http.md").read_text().partition("## Routes")[2].partition("## The event stream")[0]
    app = create_app(AsyncSpool.from_env({}), allow_all)
    routes = {
        f"{method.upper()} {path.replace('{chat_id}', '{chat}')}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    documented = {f"{method} {path}" for method, path in re.findall(r"`(GET|POST|PUT|DELETE) ([^`?\s]+)", table)}
    assert documented == routes | {"GET /openapi.json", "GET /metrics"}


def test_every_key_is_documented() -> None:
    """The table of docs/reference/redis-keys.md has each key and channel that is built, and no other."""
    table = (REFERENCE / "redis-keys.md").read_text().partition("## Keys")[2].partition("## Scripts")[0]
    of = keys.ChatKeys("tenant", "chat")
    own = {of.seq, of.log, of.head, of.gens, of.readers, of.live, of.digest, of.title, of.gen("id"), of.request("id")}
    own |= {of.copy("id"), of.outbox, of.owners}
    queue = keys.QueueKeys("queue")
    index = {queue.unfinished, queue.republished, queue.watermark, queue.sweep_lock, queue.dead_letters}
    index |= {queue.sent, queue.running, queue.queued("batch")}
    tenant = keys.TenantKeys("tenant")
    shared = {
        keys.place_of("id"),
        *index,
        tenant.policy,
        tenant.active,
        tenant.chats(None),
        tenant.streams,
        tenant.pinned,
        keys.RETENTION_DUE,
        keys.PINS_DUE,
        tenant.touched("hash"),
        tenant.erasing("hash"),
        keys.TOUCHED_DUE,
        keys.ERASURES,
        keys.SIZES_DUE,
        keys.TENANT_BYTES,
        keys.TENANT_CHATS,
        keys.OUTCOME_TENANTS,
        tenant.outcomes,
        tenant.outcomes_seen,
        tenant.outcomes_dead,
        tenant.outcomes_dropped,
        keys.stops_channel(0),
    }
    documented = set(re.findall(r"^\| `(cs:\S+)` \|", table, re.MULTILINE))
    # What else the scripts build is in their preludes' headers.
    built_by_scripts = {name for name in documented if re.search(r":(line|lines|clock|slots|rate|sizes):", name)}
    documented -= built_by_scripts
    placeholders = {
        "<id>": "id",
        "<tenant>": "tenant",
        "<hash>": "hash",
        "<queue>": "queue",
        "<db>": "0",
        "<priority>": "batch",
    }
    for placeholder, word in placeholders.items():
        documented = {name.replace(placeholder, word) for name in documented}
    assert documented == own | shared


def test_the_map_names_every_script() -> None:
    """docs/reference/redis-keys.md says what each does, and names none that does not exist."""
    text = (REFERENCE / "redis-keys.md").read_text().partition("## Scripts")[2]
    bullets = text[text.index("\n* ") :]
    assert set(re.findall(r"`([a-z_]+)`", bullets)) == {path.stem for path in (LIBRARY / "store" / "lua").glob("*.lua")}


def test_the_map_names_every_module() -> None:
    """docs/decisions/house.md has a place for each file and folder, and none for what does not exist."""
    tree = (DOCS / "decisions" / "house.md").read_text().partition("\nchunkspool/")[2]
    library = re.sub(r"#.*", "", tree.partition("celeryconfig.py")[0])
    # What is linked here lies at the top of the project: the map has it there.
    folders = [folder for folder in LIBRARY.iterdir() if folder.is_dir() and not folder.is_symlink()]
    files = [path for folder in folders for path in folder.glob("*.py")]
    paths = (*LIBRARY.glob("*.py"), *files, *LIBRARY.glob("web/*/__init__.py"))
    modules = {path.parent.name if path.name == "__init__.py" else path.stem for path in paths if path.suffix == ".py"}
    assert set(re.findall(r"\w+", library)) == modules - {LIBRARY.name}


def test_the_django_project_is_the_documented_one() -> None:
    """The Python of docs/how-to/web/django.md stands in examples/django_chat."""
    section = (DOCS / "how-to" / "web" / "django.md").read_text()
    blocks = re.findall(r"```python\n(.+?)```", section, re.DOTALL)
    code = [file.read_text() for file in (PROJECT / "examples" / "django_chat").rglob("*.py")]
    assert len(blocks) == 2
    for block in blocks:
        assert any(block in text for text in code), block


def test_every_link_leads_somewhere() -> None:
    """Files, and headings in them. That the site's menu has every page is what `make site` checks."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            path, _, anchor = target.partition("#")
            if "://" not in target:
                linked = (page.parent / path) if path else page
                assert linked.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in _anchors(linked), f"{page.name}: {target}"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


async def test_the_documented_own_provider_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The class and entry point shown in docs/how-to/tasks/own-provider.md work verbatim in an installed package."""
    own = (DOCS / "how-to" / "tasks" / "own-provider.md").read_text()
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
