"""The project's Celery app: its tasks go here, too. Its settings are Django's that begin with CELERY_."""

import os

from celery import Celery

from chunkspool.worker import equip

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "examples.django_chat.settings")

app = Celery("django_chat")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
equip(app)
