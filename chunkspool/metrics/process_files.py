"""The files in which several processes count: where they are, what they say together, and what a dead process leaves.

prometheus_client writes them where PROMETHEUS_MULTIPROC_DIR is set; this module does without it until they are read.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from chunkspool.errors import SettingsError

if TYPE_CHECKING:
    from prometheus_client import Metric

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
LOCK_SECONDS: Final = 3.0
"""How long a scrape waits for another one that reads the same files."""
_LOCK_POLL: Final = 0.02
_SET_FOLDER: Final = f"set {VARIABLE} to one that exists, is empty and may be written"
_DEAD: Final = "dead"
_SUMS: Final = ("counter", "histogram", "summary")
_LIVE: Final = "gauge_live"


def folder() -> Path | None:
    """Return the folder of the files; None where each process counts for itself."""
    return Path(found) if (found := os.environ.get(VARIABLE)) else None


def count_in_files() -> None:
    """Have processes that are forked off later count in files, in a temporary folder unless one is set.

    What was registered before stays as it is: prometheus_client decides for each metric when that is made.
    """
    if folder() is None:
        try:
            made = tempfile.mkdtemp(prefix="chunkspool-metrics-")
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SettingsError(f"no temporary folder can be made ({reason}): {_SET_FOLDER}") from error
        os.environ[VARIABLE] = made
        atexit.register(_remove, made, os.getpid())
    values: Any = sys.modules.get("prometheus_client.values")
    if values is not None and not values.ValueClass._multiprocess:  # noqa: SLF001 - it has no other name
        # It was loaded without the variable: with Flower installed, Celery's command line loads it.
        values.ValueClass = values.get_value_class()


def check_folder() -> None:
    """Raise `SettingsError` if processes are to count in a folder in which they cannot."""
    path = folder()
    if path is not None and not (path.is_dir() and os.access(path, os.R_OK | os.W_OK | os.X_OK)):
        raise SettingsError(f"{path} is no folder in which this process may write: {_SET_FOLDER}")


def _remove(made: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(made, ignore_errors=True)


class ProcessFiles:
    """A collector of what all processes have counted, the dead ones, too.

    What a dead process has counted goes into one file, so that no counter falls and the files do not become more and
    more. Its gauges are gone.
    """

    def __init__(self, path: Path) -> None:
        """`path` is the folder of the files."""
        self._path = path

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all files. Raises `TimeoutError` if another process keeps them for itself."""
        from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - see the module

        with self._locked():
            self._keep_what_the_dead_counted()
            files = [str(file) for file in self._path.glob("*.db") if file.stat().st_size]
            merged: Iterable[Metric] = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]
            return list(merged)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Be the only process that reads or merges files: while they are merged, something is there twice."""
        with (self._path / "lock").open("w") as lock:
            _take(lock)
            try:
                yield
            finally:
                # Closing it is not enough: a child that was forked off meanwhile has it, too.
                fcntl.flock(lock, fcntl.LOCK_UN)

    def _keep_what_the_dead_counted(self) -> None:
        dead = [file for file in self._path.glob("*.db") if not _is_alive(file)]
        for kind in _SUMS:
            files = [file for file in dead if file.name.startswith(f"{kind}_")]
            if files:
                self._merge(kind, files)
        for file in dead:
            if file.name.startswith((_LIVE, *_SUMS)):
                file.unlink(missing_ok=True)

    def _merge(self, kind: str, files: Sequence[Path]) -> None:
        from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415 - see the module

        kept = self._path / f"{kind}_{_DEAD}.db"
        sums: dict[str, float] = {}
        for file in (kept, *files):
            if file.exists() and file.stat().st_size:  # one that was killed at once has an empty one
                for key, value, *_ in MmapedDict.read_all_values_from_file(str(file)):  # type: ignore[no-untyped-call]
                    sums[key] = sums.get(key, 0.0) + value
        written = kept.with_suffix(".new")
        written.unlink(missing_ok=True)
        merged = MmapedDict(str(written))  # type: ignore[no-untyped-call]
        for key, value in sums.items():
            merged.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
        merged.close()  # type: ignore[no-untyped-call]
        written.replace(kept)


def _take(lock: IO[str]) -> None:
    """Lock the file. Raises `TimeoutError` if another process keeps it for long, such as one that hangs."""
    until = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError("another process reads the files of the metrics, and does not end") from None
            time.sleep(_LOCK_POLL)
        else:
            return


def _is_alive(file: Path) -> bool:
    """Tell whether the process that a file is named after is there; a file that names none is nobody's to remove."""
    process = file.stem.rpartition("_")[2]
    if not process.isdecimal():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True
