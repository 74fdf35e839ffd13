"""The rights that docs/how-to/run/outcomes.md asks for are enough; without them answers go on, and outcomes wait."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from support.chats.spools import spool_for
from support.processes.nodes import PROJECT
from support.servers.roles import RoleServer, documented_rights
from support.waiting import eventually

from chunkspool import Spool
from chunkspool.store.keys import QueueKeys

GROUP = "billing"


def further_rights() -> list[str]:
    """Return them."""
    text = (PROJECT / "docs" / "how-to" / "run" / "outcomes.md").read_text()
    (line,) = re.findall(r"^\+xack .+$", text, re.MULTILINE)
    return line.split()


def grant(server: RoleServer, rights: list[str]) -> None:
    """Give web apps and workers these rights beside their own."""
    for role in ("web", "worker"):
        server.grant(role, (*server.rights[role], *rights))


def answer(spool: Spool, chat: str) -> None:
    """Ask and answer."""
    made = spool.enqueue(chat, "x")
    with spool.produce(chat, made.generation_id) as out:
        out.text("x")


def do_everything(server: RoleServer) -> None:
    """Make groups, answer, stop, read, set aside, erase, sweep and end the groups."""
    with spool_for(server.worker_url) as worker, spool_for(server.url) as web:
        with web.outcomes("other"), web.outcomes(GROUP, "first", claim_after=0.01) as outcomes:
            answer(worker, "chat")
            web.enqueue("stopped", "x")
            web.stop("stopped")
            found = [next(outcomes), next(outcomes)]
            again = [next(outcomes), next(outcomes)]
            assert {one.id for one in found} == {one.id for one in again}
            outcomes.ack(again[0])
            assert outcomes.set_aside(again[1], "no")
        worker.sweep(queue_is_empty=False)
        assert web.outcome_lag()
        assert web.stats().unknown == {}
        web.forget_dead_outcomes(*web.dead_outcomes())
        web.erase("chat")
        for group in (GROUP, "other"):
            web.drop_outcome_group(group)


def test_they_are_enough(server: RoleServer) -> None:
    """For whatever web apps and workers do with outcomes."""
    grant(server, further_rights())
    do_everything(server)
    assert server.refused() == []


def test_without_them_answers_go_on_and_outcomes_wait(server: RoleServer) -> None:
    """Until somebody gives the rights: the sweep tells them then."""
    grant(server, further_rights())
    with spool_for(server.url) as web, web.outcomes(GROUP):
        pass
    grant(server, [])
    with spool_for(server.worker_url) as worker, server.client() as admin:
        answer(worker, "chat")
        assert worker.status("chat").generations[0].state == "completed"
        worker.sweep(queue_is_empty=False)
        assert admin.exists("cs:{default/chat}:outbox")
        grant(server, further_rights())
        admin.delete(QueueKeys(worker.settings.worker.queue).sweep_lock)
        worker.sweep(queue_is_empty=False)
        eventually(lambda: not admin.exists("cs:{default/chat}:outbox"))
        with worker.outcomes(GROUP) as outcomes:
            assert next(outcomes).text == "x"


def test_none_is_asked_for_in_vain() -> None:
    """They are what the scripts of outcomes call, and no web app or worker has had to be allowed so far."""
    folder = Path(str(files("chunkspool.store"))) / "lua"
    calls: set[str] = set()
    for script in folder.glob("*outcomes*.lua"):
        text = script.read_text()
        for name, sub in re.findall(r"redis\.p?call\('([A-Z]+)'(?:, '([A-Z]+)')?", text):
            calls.add(f"+{name}|{sub}".lower() if name == "XINFO" else f"+{name}".lower())
    rights = documented_rights()
    known = set(rights["web"]) & set(rights["worker"]) | {"+memory"}
    assert calls - known == set(further_rights())
