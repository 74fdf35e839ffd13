"""Somebody's own Celery app, equipped for generations if EQUIPPED is set."""

from __future__ import annotations

import os

from celery import Celery
from kombu import Exchange, Queue

app = Celery("yours", broker=os.environ.get("APP_BROKER"), backend=os.environ.get("APP_BACKEND"))
app.conf.update(
    broker_connection_retry_on_startup=True,
    imports=("support.processes.own_tasks",),
    result_expires=600,
    task_soft_time_limit=20,
    task_time_limit=30,
    task_default_rate_limit="1000/s",
    task_annotations={"*": {"acks_late": False, "rate_limit": "500/s"}},
    task_queues=[Queue("celery", Exchange("celery"), "celery"), Queue("slow", Exchange("slow"), "slow")],
    task_routes={"yours.slow": {"queue": "slow"}},
    beat_schedule={"nightly": {"task": "yours.add", "schedule": 86_400, "args": (1, 2)}},
)
if os.environ.get("ACCEPT"):
    app.conf.accept_content = [os.environ["ACCEPT"]]
if os.environ.get("CONSUMER"):
    app.conf.worker_consumer = os.environ["CONSUMER"]
if os.environ.get("EQUIPPED"):
    from chunkspool.worker import equip

    equip(app, queues=tuple(name for name in os.environ.get("QUEUES", "").split(",") if name))
    app.conf.imports += ("support.processes.own_generations",)
