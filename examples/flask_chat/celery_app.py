"""The app's Celery app: your own tasks go here, too. CELERY_BROKER_URL names another broker."""

from celery import Celery

from chunkspool.worker import equip

celery_app = equip(Celery("flask_chat", broker="redis://127.0.0.1:6379/0"))
