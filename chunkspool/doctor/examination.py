"""The whole examination: reads one part of a deployment after the other, and judges each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.broker_checks import GROUP as BROKER
from chunkspool.doctor.broker_checks import check_other_broker, check_queue
from chunkspool.doctor.broker_reading import read_other_broker, read_queue
from chunkspool.doctor.finding import Finding
from chunkspool.doctor.redis_checks import check_redis, unreachable
from chunkspool.doctor.redis_reading import Server, read_redis
from chunkspool.doctor.web_checks import check_web
from chunkspool.doctor.web_reading import read_flower
from chunkspool.doctor.worker_checks import check_workers, serves
from chunkspool.doctor.worker_reading import Workers, read_workers
from chunkspool.doctor.worker_report import WorkerReport
from chunkspool.settings import Settings
from chunkspool.store.probes import Role
from chunkspool.urls.broker_url import CeleryBroker


@dataclass(frozen=True, slots=True)
class Examination:
    """What is examined. `seconds` limits each question; `role`: whose rights the URL's user is to have."""

    settings: Settings
    queues: tuple[str, ...]
    role: Role = "web"
    seconds: float = 3.0

    def findings(self) -> Iterator[Finding]:
        """Yield what is found, part by part. Nothing raises: what cannot be asked is a finding."""
        reached = True
        for server in servers_of(self.settings):
            facts = read_redis(server, self.settings, self.role, self.seconds)
            if isinstance(facts, Unanswered):
                reached = reached and not server.broker
                yield unreachable(server.group, facts)
            else:
                yield from check_redis(facts, self.settings.worker.redelivery)
        if reached:
            yield from self._queues_and_workers()
        yield from self._web()

    def _queues_and_workers(self) -> Iterator[Finding]:
        if CeleryBroker.from_url(self.settings.broker).is_redis:
            workers = read_workers(self.settings, self.queues, self.seconds)
            for queue in self.queues:
                yield from self._queue(queue, workers)
        else:
            found = [read_other_broker(self.settings.broker, queue, self.seconds) for queue in self.queues]
            for one in found:
                if isinstance(one, Unanswered):
                    yield unreachable(BROKER, one)
                    return
                yield from check_other_broker(one)
            workers = read_workers(self.settings, self.queues, self.seconds)
        own = WorkerReport.of(self.settings)
        yield from check_workers(workers, self.queues, own, self.settings.limits.max_running, self.seconds)

    def _queue(self, queue: str, workers: Workers) -> Iterator[Finding]:
        settings = self.settings
        facts = read_queue(settings.broker, settings.log.redis_url, queue, self._redeliveries(workers), self.seconds)
        if isinstance(facts, Unanswered):
            yield unreachable(BROKER, facts)
        else:
            yield from check_queue(facts, served=serves(workers, queue))

    def _redeliveries(self, workers: Workers) -> Sequence[float]:
        """Return the time-outs of all workers that told theirs, and our own."""
        answered = () if isinstance(workers.answered, Unanswered) else workers.answered
        told = [one.report.settings.get("redelivery") for one in answered if one.report is not None]
        return [self.settings.worker.redelivery, *(float(one) for one in told if isinstance(one, (int, float)))]

    def _web(self) -> Iterator[Finding]:
        url = self.settings.web.flower_url
        flower = None if url is None else read_flower(url, self.seconds)
        yield from check_web(self.settings.web, flower)


def servers_of(settings: Settings) -> tuple[Server, ...]:
    """Return the Redis servers of a deployment: one, or one for the logs and one for the broker."""
    logs, broker = settings.log.redis_url, settings.broker
    if logs == broker:
        return (Server("redis", logs, logs=True, broker=True),)
    of_logs = Server("redis of the logs", logs, logs=True, broker=False)
    if not CeleryBroker.from_url(broker).is_redis:
        return (of_logs,)
    return (of_logs, Server("redis of the broker", broker, logs=False, broker=True))
