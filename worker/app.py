"""The Celery app of the worker: `celery -A worker.app worker -P threads -c 100`."""

from celery import Celery

from worker import broker_stats, garbage, log_masking, prefork, revocation, rights, shutdown, transport
from worker.prefork import ChildMonitor
from worker.shutdown import GracefulShutdown
from worker.slots import SlotOffer
from worker.solo import SoloCommands
from worker.sweeper import Sweeper
from worker.visibility import VisibilityRenewal

# Replacements for the whole process: the app finds them when it connects and starts its pool.
transport.install()
prefork.install()
app = Celery("chunkspool")
app.config_from_object("celeryconfig")
app.steps["consumer"].update({VisibilityRenewal, Sweeper, SlotOffer, SoloCommands, ChildMonitor})
app.steps["worker"].add(GracefulShutdown)
revocation.install()
shutdown.install()
broker_stats.install()
garbage.install()
rights.install()
log_masking.install()
