"""Celery's configuration: data only. The pool and its size are the command line's: `-P threads -c 100`."""

from chunkspool.broker_url import CeleryBroker
from chunkspool.settings import Settings

_settings = Settings.from_env()
_broker = CeleryBroker.from_url(_settings.broker)

broker_url = _broker.url
broker_use_ssl = _broker.use_ssl
broker_connection_retry_on_startup = True
# For as long as it takes: by default a worker ends after a hundred tries.
broker_connection_max_retries = None
if _broker.is_redis:
    broker_transport_options = {
        **_broker.transport_options,
        # A dead worker's message is another's after so long, seen by a look every second (kombu's defaults: an hour,
        # and 100 seconds). A live worker renews what it holds: worker/lease.py.
        "visibility_timeout": _settings.worker.redelivery,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        # The look is taken under a lock, with which a worker may die. It only saves work: a message is given back in
        # one transaction, however many try.
        "unacked_mutex_expire": 1,
        # A server that vanished sends no reset, and by default a worker waits for its reply for ever. No command of
        # kombu's takes longer than a second.
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
        "health_check_interval": 5,
    }
else:
    # RabbitMQ gives the messages of a lost connection back at once. One that is silent is lost after two of these.
    broker_heartbeat = _settings.worker.redelivery
task_default_queue = _settings.worker.queue
imports = (
    "tasks.celery_tasks",
    *(name.strip() for name in _settings.worker.imports.split(",") if name.strip()),
)

# How often each worker looks for lost generations: worker/sweep.py.
chunkspool_sweep_interval = _settings.worker.sweep_interval

# A generation is acknowledged when it has ended: a worker that dies leaves it to the next one.
task_acks_late = True
task_reject_on_worker_lost = True
# One at a time and none in advance: a generation that waits in a busy worker could have run in an idle one,
# and on threads a revoke does not reach a prefetched task.
worker_prefetch_multiplier = 1
worker_disable_prefetch = True

# Results are in the log. Messages hold three ids, nothing that would need more than JSON.
task_ignore_result = True
task_serializer = "json"
accept_content = ["json"]
timezone = "UTC"

# What Flower shows.
worker_send_task_events = True
task_send_sent_event = True
task_track_started = True
