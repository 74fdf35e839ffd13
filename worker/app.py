"""The Celery app of the worker: `celery -A worker.app worker -P threads -c 100`."""

from celery import Celery

from worker import drain, prefork, revocation, transport
from worker.children import Children
from worker.drain import Drain
from worker.lease import MessageLease
from worker.solo import CommandsWhileBusy
from worker.sweep import Sweeper

transport.install()
prefork.install()
app = Celery("chunkspool")
app.config_from_object("celeryconfig")
app.steps["consumer"].update({MessageLease, Sweeper, CommandsWhileBusy, Children})
app.steps["worker"].add(Drain)
revocation.install()
drain.install()
