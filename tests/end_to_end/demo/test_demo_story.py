"""`make demo` as a newcomer runs it: the story is true, and no process is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect
from support.models.model_servers import LlamaServer
from support.processes.nodes import PROJECT
from support.waiting import eventually
from support.web.browser import run_chromium

from chunkspool.demo.ports import is_taken


@pytest.fixture
def model_url(llama: LlamaServer) -> str:
    """Give the URL of a real llama.cpp server with a tiny random model, which the demo takes from OPENAI_BASE_URL."""
    return llama.base_url


class Demo:
    """A running demo."""

    def __init__(self, folder: Path, model_url: str, *arguments: str) -> None:
        """Start it as `make demo` does."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CHUNKSPOOL_", "OPENAI_"))}
        self.output = folder / "output"
        with self.output.open("wb") as out:
            self.popen = subprocess.Popen(  # noqa: S603 - the project's own demo
                [sys.executable, "-m", "chunkspool.demo", "--folder", str(folder / "data"), *arguments],
                cwd=PROJECT,
                env={**kept, "OPENAI_BASE_URL": model_url, "OPENAI_API_KEY": "none", "COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def read_output(self) -> str:
        """Return everything that it has printed."""
        return self.output.read_text()

    def find_children(self) -> list[psutil.Process]:
        """Return every process that it has started."""
        return psutil.Process(self.popen.pid).children(recursive=True)


@pytest.fixture
def staying(tmp_path: Path, model_url: str) -> Iterator[Demo]:
    """Give a demo that has told its story and is still running."""
    demo = Demo(tmp_path, model_url)
    eventually(lambda: "Ctrl-C ends the demo" in demo.read_output() or demo.popen.poll() is not None, 90)
    assert demo.popen.poll() is None, demo.read_output()
    yield demo
    if demo.popen.poll() is None:
        demo.popen.terminate()
        demo.popen.wait(30)


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_the_story_is_true_and_the_exit_code_is_zero(tmp_path: Path, model_url: str) -> None:
    """`make demo ARGS=--once`: a reader leaves and resumes, both halves make the whole log, a stop is the ending."""
    demo = Demo(tmp_path, model_url, "--once")
    assert demo.popen.wait(90) == 0, demo.read_output()
    printed = demo.read_output()
    assert re.search(r"✓ \d+ \+ \d+ events make the whole log", printed)
    assert "generation.stopped is the last event" in printed


def test_a_failed_step_is_exit_code_one(tmp_path: Path) -> None:
    """The model is unreachable: the demo prints it, and exits with 1."""
    demo = Demo(tmp_path, "http://127.0.0.1:9/v1", "--once")
    assert demo.popen.wait(90) == 1
    assert "The demo failed: the model failed" in demo.read_output()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_behind(staying: Demo, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and even kill -9 of the demo end every process that it has started, and free their ports."""
    ports = re.findall(r"(?:flower|web) +http://127.0.0.1:(\d+)", staying.read_output())
    assert len(ports) == 2
    children = staying.find_children()
    assert len(children) >= 4
    staying.popen.send_signal(number)
    code = staying.popen.wait(30)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    for child in children:
        eventually(lambda child=child: has_ended(child))
    # A process counts as ended when its main thread has; its ports are free when its last thread has.
    eventually(lambda: not any(is_taken(int(port)) for port in ports))


def test_the_invitation_works_from_a_second_terminal(staying: Demo) -> None:
    """The commands that the demo prints for a second terminal work, and the page shows the story's chat."""
    (page,) = re.findall(r"web +(http://\S+)", staying.read_output())
    (story,) = re.findall(r"chat (demo-\d+)", staying.read_output())
    with run_chromium() as browser:
        screen = browser.new_page()
        screen.goto(f"{page}#chat={story}")
        expect(screen.locator(".answer .text").first).to_have_text(re.compile(r"\S"))
        expect(screen.locator(".facts").last).to_contain_text("the demo has read enough")
        expect(screen.get_by_role("link", name="Flower")).to_be_visible()
    (url,) = re.findall(r"export CHUNKSPOOL_REDIS_URL=(\S+)", staying.read_output())
    told = subprocess.run(
        [sys.executable, "-m", "chunkspool.cli", "ask", "my-chat", "Why is the sky blue?", "--param", "max_tokens=40"],
        env={**os.environ, "CHUNKSPOOL_REDIS_URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.strip()
