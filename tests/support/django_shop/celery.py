"""The Celery app of a Django project, equipped before or after its settings are named, as EQUIPPED says."""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "support.django_shop.settings")
EQUIPPED = os.environ.get("EQUIPPED")

app = Celery("shop")
if EQUIPPED == "before":
    from chunkspool.worker import equip

    equip(app)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
if EQUIPPED == "after":
    from chunkspool.worker import equip

    equip(app)
if EQUIPPED:
    app.autodiscover_tasks(related_name="generations")
