"""Starts a Celery worker of an equipped app for its queues of generations: `python -m chunkspool.worker yours …`."""

from __future__ import annotations

import sys

from celery.app.utils import find_app
from celery.bin.celery import main as run_celery

from chunkspool.tasks.equipment import equipment_of, is_equipped


def main(name: str, *options: str) -> None:
    """Run Celery's command with the queues that the app was equipped for. Further options are Celery's own."""
    sys.argv = ["celery", "-A", name, "worker", *queues_of(name), *options]
    run_celery()


def queues_of(name: str) -> tuple[str, ...]:
    """Return Celery's option for the app's queues. Ends the process if the app was not equipped."""
    try:
        app = find_app(name)
    except Exception:  # noqa: BLE001 - an app's module may raise anything; Celery loads it again, and says what it was
        return ()
    if not is_equipped(app):
        sys.exit(f"chunkspool: the Celery app {name} was not equipped: call chunkspool.worker.equip(app), or give -Q")
    return ("-Q", ",".join(equipment_of(app).names))


if __name__ == "__main__":
    main(*sys.argv[1:])
