"""The Celery app of the worker: `celery -A chunkspool.worker worker -P threads -c 100`."""

from celery import Celery

from chunkspool.worker import broker_stats, garbage, log_masking, prefork, revocation, rights, shutdown, transport
from chunkspool.worker.prefork import ChildMonitor
from chunkspool.worker.shutdown import GracefulShutdown
from chunkspool.worker.slots import SlotOffer
from chunkspool.worker.solo import SoloCommands
from chunkspool.worker.sweeper import Sweeper
from chunkspool.worker.visibility import VisibilityRenewal

# Replacements for the whole process: the app finds them when it connects and starts its pool.
transport.install()
prefork.install()
app = Celery("chunkspool")
app.config_from_object("chunkspool.worker.celeryconfig")
app.steps["consumer"].update({VisibilityRenewal, Sweeper, SlotOffer, SoloCommands, ChildMonitor})
app.steps["worker"].add(GracefulShutdown)
revocation.install()
shutdown.install()
broker_stats.install()
garbage.install()
rights.install()
log_masking.install()
