"""Judges the workers: whether each queue has one, and whether they agree with each other and with us. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Final

from chunkspool.doctor.asking import Unanswered
from chunkspool.doctor.finding import Finding
from chunkspool.doctor.worker_reading import WorkerFacts, Workers
from chunkspool.doctor.worker_report import WorkerReport
from chunkspool.settings import variable_of

GROUP: Final = "workers"
TESTED_POOLS: Final = frozenset({"threads", "prefork", "solo"})
SHARED: Final = ("tenant", "lease", "redelivery", "lost_after", "task")
"""Settings, besides the limits, that web apps and workers must have in common."""

_make = partial(Finding, GROUP)


def check_workers(
    workers: Workers, queues: Sequence[str], own: WorkerReport, max_running: int, seconds: float
) -> Iterator[Finding]:
    """Yield what there is to say of the workers. `own`: what a worker with our settings would tell."""
    if isinstance(workers.answered, Unanswered):
        yield _tell_unasked(workers, workers.answered)
        return
    yield _check_answers(workers.answered, seconds)
    yield from _check_silent(workers, workers.answered)
    serving = [one for one in workers.answered if one.is_equipped and set(one.queues) & set(queues)]
    if workers.answered:
        yield from (_check_queue(queue, workers.answered) for queue in queues)
    if serving:
        reports = {one.name: one.report for one in serving if one.report is not None}
        yield from _check_reports(serving, reports)
        yield from _check_pools(serving)
        yield _check_slots(serving, max_running)
        yield _check_versions({**reports, "this command": own})
        yield _check_addresses(reports, own)
        yield _check_settings(reports)
        yield from _check_own_settings(reports, own)


def serves(workers: Workers, queue: str) -> bool | None:
    """Tell whether a worker serves the queue; None where nobody could be asked."""
    if not isinstance(workers.offering, Unanswered) and workers.offering.get(queue):
        return True
    if isinstance(workers.answered, Unanswered):
        return None
    return any(queue in one.queues for one in workers.answered)


def _tell_unasked(workers: Workers, why: Unanswered) -> Finding:
    offering = workers.offering if isinstance(workers.offering, Mapping) else {}
    names = sorted({name for found in offering.values() for name in found})
    known = f"; those that have just offered slots: {', '.join(names)}" if names else ""
    advice = (
        "run doctor with a worker's or an administrator's URL in CHUNKSPOOL_REDIS_URL (CHUNKSPOOL_BROKER_URL): the "
        "web app's user may not send Celery's commands"
    )
    return _make("warning", "answers", f"the workers could not be asked: {why.why}{known}", advice)


def _check_answers(answered: Sequence[WorkerFacts], seconds: float) -> Finding:
    if answered:
        return _make("ok", "answers", ", ".join(one.name for one in answered))
    advice = (
        "start one (chunkspool worker), or look why it is silent: its log, its broker URL, its database's number; "
        "--timeout waits for longer"
    )
    return _make("error", "answers", f"no worker answered within {seconds:g} seconds", advice)


def _check_silent(workers: Workers, answered: Sequence[WorkerFacts]) -> Iterator[Finding]:
    if isinstance(workers.offering, Unanswered):
        return
    names = {one.name for one in answered}
    silent = sorted({name for found in workers.offering.values() for name in found} - names)
    if silent:
        advice = "look at their logs: they died a moment ago, stand still, or use another broker for Celery's commands"
        found = f"{', '.join(silent)} offered slots within the last 20 seconds and did not answer"
        yield _make("warning", "silent workers", found, advice)


def _check_queue(queue: str, answered: Sequence[WorkerFacts]) -> Finding:
    serving = [one for one in answered if queue in one.queues]
    if not serving:
        others = sorted({name for one in answered for name in one.queues})
        found = f"no worker serves {queue}" + (f"; those that answered serve {', '.join(others)}" if others else "")
        advice = f"start a worker with -Q {queue}, or let CHUNKSPOOL_QUEUE of web apps name the workers' queue"
        return _make("error", "queues", found, advice)
    strangers = [one.name for one in serving if not one.is_equipped]
    if strangers:
        advice = (
            f"take {queue} from their -Q, or equip their app (chunkspool.worker.equip): they take messages that they "
            "cannot run, or do not give back when they die"
        )
        return _make("error", "queues", f"{', '.join(strangers)} serves {queue} without chunkspool", advice)
    return _make("ok", "queues", f"{queue} is served by {', '.join(one.name for one in serving)}")


def _check_reports(serving: Sequence[WorkerFacts], reports: Mapping[str, WorkerReport]) -> Iterator[Finding]:
    mute = [one.name for one in serving if one.name not in reports]
    if mute:
        advice = "restart them with this version of chunkspool: settings that differ could not be looked for"
        yield _make("warning", "versions", f"{', '.join(mute)} did not tell its version", advice)


def _check_pools(serving: Sequence[WorkerFacts]) -> Iterator[Finding]:
    for one in serving:
        found = f"{one.name}: {one.pool}, {one.slots} slots"
        if one.pool == "solo":
            advice = "use -P threads -c 100: solo runs one generation at a time, and threads that wait cost little"
            yield _make("warning", "pool", found, advice)
        elif one.pool not in TESTED_POOLS:
            advice = "use -P threads: chunkspool is not tested on this pool, and stops and deadlines may not arrive"
            yield _make("warning", "pool", found, advice)
        else:
            yield _make("ok", "pool", found)


def _check_slots(serving: Sequence[WorkerFacts], max_running: int) -> Finding:
    total = sum(one.slots for one in serving)
    found = f"{total} in all, a tenant may use {max_running}"
    if total > max_running:
        advice = (
            "with one tenant raise CHUNKSPOOL_MAX_RUNNING, of web apps and workers alike, or the tenant's limit: "
            "beyond it slots stay free, and its generations wait"
        )
        return _make("warning", "slots", found, advice)
    return _make("ok", "slots", found)


def _check_versions(reports: Mapping[str, WorkerReport]) -> Finding:
    by_version = _group({name: f"chunkspool {one.chunkspool}, Celery {one.celery}" for name, one in reports.items()})
    if len(by_version) == 1:
        return _make("ok", "versions", next(iter(by_version)))
    advice = "finish the deploy: run one version everywhere; two side by side are meant for the minutes of a deploy"
    return _make("warning", "versions", _spell(by_version), advice)


def _check_addresses(reports: Mapping[str, WorkerReport], own: WorkerReport) -> Finding:
    places = {name: f"logs {one.logs}, broker {one.broker}" for name, one in {**reports, "this command": own}.items()}
    by_place = _group(places)
    if len(by_place) == 1:
        return _make("ok", "servers", "all name the same ones")
    advice = (
        "make sure that these are the same server and database (a host may have several names): a worker elsewhere "
        "finds no chat"
    )
    return _make("warning", "servers", _spell(by_place), advice)


def _check_settings(reports: Mapping[str, WorkerReport]) -> Finding:
    if len({one.digest for one in reports.values()}) <= 1:
        return _make("ok", "settings", "the same in all workers")
    values = {worker: one.settings for worker, one in reports.items()}
    names = sorted({name for told in values.values() for name in told})
    differing = [
        f"{variable_of(name)}: {_spell(by_value)}"
        for name in names
        if len(by_value := _group({worker: told.get(name) for worker, told in values.items()})) > 1
    ]
    advice = "give all workers of a queue the same environment: which of them takes a generation is chance"
    return _make("warning", "settings", "; ".join(differing), advice)


def _check_own_settings(reports: Mapping[str, WorkerReport], own: WorkerReport) -> Iterator[Finding]:
    names = [name for name in own.settings if name in SHARED or name.startswith("max_")]
    told = {name: {one.settings.get(name) for one in reports.values()} for name in names}
    differing = [
        f"{variable_of(name)}: {own.settings[name]} here, {values.pop()} there"
        for name, values in told.items()
        if len(values) == 1 and values != {own.settings[name]}  # where workers differ, that is told already
    ]
    if differing:
        advice = (
            "give web apps, workers and this command the same values, or run doctor in a web app's environment: each "
            "goes by its own times and limits"
        )
        yield _make("warning", "shared settings", "; ".join(differing), advice)


def _group(values: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """Return who has each value, by the value as it is shown."""
    pairs = sorted((str(value), name) for name, value in values.items())
    return {value: [name for _, name in group] for value, group in groupby(pairs, key=lambda pair: pair[0])}


def _spell(by_value: Mapping[str, Sequence[str]]) -> str:
    return " / ".join(f"{value} ({', '.join(names)})" for value, names in by_value.items())
