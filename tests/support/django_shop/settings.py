"""The settings of somebody's Django project, whose Celery app keeps the results of its tasks in the database."""

from __future__ import annotations

import os
from typing import Any

from kombu import Exchange, Queue

SECRET_KEY = "a secret of nobody's"
USE_TZ = True
TIME_ZONE = "Europe/Berlin"
INSTALLED_APPS = ["django_celery_results", "support.django_shop"]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["DATABASE"],
        # Several processes write to the file, and wait for each other as shortly as it can be had.
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

CELERY_BROKER_URL = os.environ["APP_BROKER"]
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 7200, "priority_steps": [0, 5]}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_IMPORTS = ("support.processes.own_tasks",)
CELERY_RESULT_BACKEND = "django-db"
CELERY_RESULT_EXTENDED = True
CELERY_RESULT_EXPIRES = 600
CELERY_TASK_STORE_ERRORS_EVEN_IF_IGNORED = True
CELERY_TASK_TRACK_STARTED = True
CELERY_TASK_SOFT_TIME_LIMIT = 20
CELERY_TASK_TIME_LIMIT = 30
CELERY_TASK_ANNOTATIONS: dict[str, dict[str, Any]] = {"*": {"ignore_result": False, "rate_limit": "500/s"}}
CELERY_TASK_QUEUES = [Queue("celery", Exchange("celery"), "celery"), Queue("slow", Exchange("slow"), "slow")]
# The last one takes every task that no other has named: generations, too, if they let it.
CELERY_TASK_ROUTES = {"yours.slow": {"queue": "slow"}, "*": {"queue": "celery"}}
CELERY_BEAT_SCHEDULE = {"nightly": {"task": "yours.add", "schedule": 86_400, "args": (1, 2)}}
CELERY_TIMEZONE = "Europe/Berlin"
