"""Processes that count in files: their sum is right while they live, and when they have died."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from support.metrics.scrape import Scraped, read

from chunkspool.metrics import process_files
from chunkspool.metrics.process_files import VARIABLE, ProcessFiles

PROJECT = Path(__file__).parents[3]
COUNTING = """
import os, sys
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.observer import Flushed, MessageRedelivered, RunningChanged
observer = PrometheusObserver.with_own_registry()
observer.observe(RunningChanged(1))
for _ in range(3):
    observer.observe(MessageRedelivered())
observer.observe(Flushed(0.1, {10: 1, 300: 1}, ()))
observer.put()
"""
FORKING = """
import prometheus_client, sys
from chunkspool.metrics import process_files
process_files.count_in_files()
{code}
if not os.fork():
    observer.observe(MessageRedelivered())
    observer.put()
    os._exit(0)
os.wait()
from chunkspool.metrics.exposition import Exposition
from chunkspool.settings import Settings
print(Exposition(observer, Settings.checked({{}})).render()[1].decode())
print("# folder", process_files.folder())
"""

FORKED_WHILE_LOCKED = """
import os, sys
from pathlib import Path
from chunkspool.metrics.process_files import ProcessFiles
files = ProcessFiles(Path(sys.argv[1]))
read, write = os.pipe()
with files._locked():
    child = os.fork()
    if not child:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
try:
    files.collect()
    print("scraped")
finally:
    os.close(write)
    os.waitpid(child, 0)
"""


def run(code: str, folder: Path | None) -> str:
    """Run a process that counts; it is dead when this returns. Return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {"PYTHONPATH": str(PROJECT)} | ({VARIABLE: str(folder)} if folder else {})
    return subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True
    ).stdout


def scrape(folder: Path) -> Scraped:
    """Return what all processes of the folder have counted."""
    registry = CollectorRegistry()
    registry.register(ProcessFiles(folder))
    return read(generate_latest(registry).decode())


def test_what_the_dead_have_counted_stays_and_their_gauges_go(tmp_path: Path) -> None:
    """However often it is scraped, and however many die; there are no more files then than before."""
    for dead in range(1, 4):
        run(COUNTING, tmp_path)
        for _ in range(2):
            seen = scrape(tmp_path)
            assert seen.value("redeliveries_total") == 3 * dead
            assert seen.value("event_bytes_count") == 2 * dead
            assert seen.value("event_bytes_bucket", le="128.0") == dead
            assert seen.value("event_bytes_sum") == 310 * dead
            assert ("chunkspool_running_generations", frozenset()) not in seen.samples
        assert sorted(file.name for file in tmp_path.glob("*.db")) == ["counter_dead.db", "histogram_dead.db"]


def test_a_process_killed_while_it_began_breaks_no_scrape(tmp_path: Path) -> None:
    """It has left an empty file."""
    run(COUNTING, tmp_path)
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], check=True, capture_output=True)
    (tmp_path / f"counter_{int(done.stdout)}.db").touch()
    (tmp_path / f"gauge_livesum_{os.getpid()}.db").touch()
    assert scrape(tmp_path).value("redeliveries_total") == 3


def test_files_of_others_stay(tmp_path: Path) -> None:
    """A gauge of an app's own is kept beyond its process if it says so."""
    (tmp_path / "gauge_max_999999999.db").touch()
    scrape(tmp_path)
    assert (tmp_path / "gauge_max_999999999.db").exists()


def test_a_forked_child_counts_although_prometheus_client_was_loaded_before() -> None:
    """Celery's command line loads it where Flower is installed. The folder is gone with the process that made it."""
    printed = run(FORKING.format(code=COUNTING), None)
    seen = read(printed)
    assert seen.value("redeliveries_total") == 4
    assert seen.value("event_bytes_count") == 2
    assert seen.value("running_generations") == 1
    folder = printed.rpartition("# folder ")[2].strip()
    assert "chunkspool-metrics-" in folder
    assert not Path(folder).exists()


def test_a_child_forked_during_a_scrape_does_not_keep_the_next_one_out(tmp_path: Path) -> None:
    """It has the files' lock from its parent, and lives on."""
    locked = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", FORKED_WHILE_LOCKED, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert locked.stdout == "scraped\n"


def test_a_scrape_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process has the lock, and stands still."""
    monkeypatch.setattr(process_files, "LOCK_SECONDS", 0.1)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            scrape(tmp_path)
    scrape(tmp_path)


def test_the_living_keep_their_files(tmp_path: Path) -> None:
    """Also a process of another user's, such as the first one of a machine."""
    files = [tmp_path / f"counter_{process}.db" for process in (1, os.getpid(), "dead")]
    for file in files:
        file.touch()
    scrape(tmp_path)
    assert all(file.exists() for file in files)
