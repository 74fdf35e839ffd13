"""Celery's configuration: data only. Pool and size are given on the command line: `-P threads -c 100`."""

from chunkspool.settings import Settings
from chunkspool.urls.broker_url import CeleryBroker

_settings = Settings.from_env()
_broker = CeleryBroker.from_url(_settings.broker)

broker_url = _broker.url
# Celery prefers CELERY_BROKER_URL, which may be that of another app on this machine, to `broker_url`, but not to these.
broker_read_url = broker_write_url = _broker.url
broker_use_ssl = _broker.use_ssl
broker_connection_retry_on_startup = True
# Retry forever: by default a worker exits after a hundred tries.
broker_connection_max_retries = None
if _broker.is_redis:
    broker_transport_options = {
        **_broker.transport_options,
        # A server that vanished sends no reset, and by default a worker waits for its reply for ever. No command of
        # kombu's takes longer than a second.
        "socket_connect_timeout": 2,
        "socket_timeout": 5,
        "health_check_interval": 5,
    }
else:
    # RabbitMQ requeues the messages of a closed connection at once, and closes one after two missed heartbeats.
    broker_heartbeat = _settings.worker.redelivery
task_default_queue = _settings.worker.queue
imports = (
    "chunkspool.tasks.celery_tasks",
    *(name.strip() for name in _settings.worker.imports.split(",") if name.strip()),
)

# A message is acknowledged when its generation has ended, so the message of a dead worker is redelivered.
task_acks_late = True
task_reject_on_worker_lost = True
# One message per free slot, none in advance: a generation that waits in a busy worker could run in an idle one, and on
# threads a revoke does not reach a prefetched task.
worker_prefetch_multiplier = 1
worker_disable_prefetch = True

# Results are in the log. Messages hold three ids, for which JSON is enough.
task_ignore_result = True
task_serializer = "json"
accept_content = ["json"]
timezone = "UTC"

# The events that Flower shows.
worker_send_task_events = True
task_send_sent_event = True
task_track_started = True
