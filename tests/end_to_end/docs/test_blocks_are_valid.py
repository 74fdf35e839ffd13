"""Whatever stands in a fenced block of the documentation is what it says: commands, JSON, TOML, YAML, JavaScript."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from support.documents.blocks import PAGES, PROJECT, Block, all_blocks, commands_of, find_blocks
from support.documents.commands import EVERYDAY, PROGRAMS, check
from support.missing import skip_missing
from support.web.npm import NODE

CHECKED = {"console", "html", "js", "json", "nginx", "python", "toml", "ts", "yaml"}
TEXTS = {
    "README.md": {"the drawing of the flow", "the map of the folders"},
    "docs/concepts/README.md": {"the drawing of the flow"},
    "docs/decisions/house.md": {"the map of the layers"},
    "docs/how-to/run/traces.md": {"the tree of a trace, which tests/end_to_end/telemetry prints"},
    "docs/how-to/run/compose.md": {"two lines of .env, which tests/end_to_end/containers fills in", "the log of a run"},
    "docs/how-to/run/outcomes.md": {"the further rights, with which tests/redis/roles run"},
    "docs/how-to/run/security.md": {"the ACL, with which tests/redis/roles and --roles run"},
    "docs/reference/http.md": {"three lines of an event stream"},
    "docs/reference/redis-urls.md": {"a URL, which tests/unit/urls reads", "two lines of redis.conf"},
}
"""The blocks that are nothing to run, by page. A new one needs its reason here."""
COMMANDS = re.compile(rf"^(\$ |({'|'.join(sorted({*PROGRAMS, *EVERYDAY} - {'.'}))}) )", re.MULTILINE)


def named(block: Block) -> str:
    """Return a name for the test of a block."""
    return block.name


def test_every_block_says_what_it_is() -> None:
    """No block is of a language that nobody checks; those that are mere text are listed above, and hold no commands."""
    texts: dict[str, int] = {}
    for block in (block for page in PAGES for block in find_blocks(page)):
        assert "--8" not in block.text, f"{block.name}: a file that is not included"
        if block.language == "text":
            page = str(block.page.relative_to(PROJECT))
            texts[page] = texts.get(page, 0) + 1
            assert not COMMANDS.search(block.text), block.name
        else:
            assert block.language in CHECKED, f"{block.name}: {block.language!r}"
    assert texts == {page: len(reasons) for page, reasons in TEXTS.items()}


@pytest.mark.parametrize("block", all_blocks("console"), ids=named)
def test_commands_can_be_typed(block: Block) -> None:
    """Programs, options, targets of make, extras and settings exist."""
    commands = commands_of(block)
    assert commands, "a console block without a command"
    for command in commands:
        check(command)


@pytest.mark.parametrize(
    "command",
    [
        "chunkspool ask my-chat why --no-such-option",
        "chunkspool no-such-command",
        "chunkspool tenant set acme --no-such-limit 3",
        "make no-such-target",
        "pip install 'chunkspool[no-such-extra]'",
        "export CHUNKSPOOL_NO_SUCH_SETTING=1",
        "celery -A yours worker --no-such-option",
        "python -m no_such_module",
        "no-such-program",
    ],
)
def test_a_command_that_cannot_be_typed_is_found(command: str) -> None:
    """The check of the other test is one: each of these fails it."""
    with pytest.raises(ValueError):  # noqa: PT011 - what it says differs
        check(command)


@pytest.mark.parametrize("block", all_blocks("json"), ids=named)
def test_json_is_valid(block: Block) -> None:
    """A parser takes it."""
    json.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("toml"), ids=named)
def test_toml_is_valid(block: Block) -> None:
    """A parser takes it."""
    tomllib.loads(block.text)


@pytest.mark.parametrize("block", all_blocks("yaml"), ids=named)
def test_prometheus_takes_its_configuration(block: Block, tmp_path: Path) -> None:
    """`promtool check config` says so; all YAML of the documentation is Prometheus's."""
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_missing("promtool: make setup-system")
    file = tmp_path / "prometheus.yml"
    file.write_text(block.text)
    command = [promtool, "check", "config", "--syntax-only", file]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - Debian's
    assert done.returncode == 0, done.stderr


def test_javascript_and_typescript_are_valid() -> None:
    """Node.js parses each block as a module, and the scripts of each page in HTML."""
    blocks = [{"name": one.name, "language": one.language, "text": one.text} for one in all_blocks("js", "ts")]
    for page in all_blocks("html"):
        scripts = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
        blocks += [{"name": page.name, "language": "js", "text": script} for script in scripts]
    wrong = {"name": "wrong", "language": "ts", "text": "const a: = 1;"}
    found = parse([*blocks, wrong])
    assert [line for line in found if not line.startswith("wrong:")] == []
    assert found, "the parser finds nothing at all"


def parse(blocks: list[dict[str, str]]) -> list[str]:
    """Return what is wrong with the blocks."""
    script = PROJECT / "tests" / "support" / "documents" / "parse.mjs"
    command = [NODE, "--no-warnings", "--experimental-vm-modules", script]
    done = subprocess.run(command, input=json.dumps(blocks), capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - ours
    return [line for line in done.stdout.splitlines() if re.match(r"\S+: ", line)]


@pytest.mark.parametrize("block", all_blocks("nginx"), ids=named)
def test_nginx_takes_its_configuration(block: Block, tmp_path: Path) -> None:
    """`nginx -t` says so."""
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        skip_missing("nginx: make setup-system")
    file = tmp_path / "nginx.conf"
    logs = f"pid {tmp_path}/pid; error_log stderr;"
    file.write_text(f"{logs}\nevents {{}}\nhttp {{ access_log off;\n{block.text} }}\n")
    done = subprocess.run([nginx, "-t", "-q", "-c", file], capture_output=True, text=True, timeout=30, check=False)  # noqa: S603 - Debian's
    assert done.returncode == 0, done.stderr
