"""The Celery app of a worker that is for generations only: `celery -A chunkspool.worker worker -P threads -c 100`."""

from celery import Celery

from chunkspool.worker import rights, transport
from chunkspool.worker.equip import equip

# Here as well, because Flower is no worker, and kombu's own transport would let it requeue workers' messages.
transport.install()
rights.install_in_flower()
app = Celery("chunkspool")
app.config_from_object("chunkspool.worker.celeryconfig")
equip(app, standalone=True)
