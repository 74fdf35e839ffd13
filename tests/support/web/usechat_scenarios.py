"""What the AI SDK's client must end with after each scenario of client.mjs, whatever serves the routes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from support.web.node import Scenario


class StartClient(Protocol):
    """Starts a scenario of client.mjs, with options of its own."""

    def __call__(self, name: str, **options: object) -> Scenario:
        """Start it."""
        ...


class RestartedServer(Protocol):
    """A web server that is ended, and started again at its address."""

    def terminate(self) -> None:
        """End it."""
        ...

    def start(self) -> None:
        """Start it again."""
        ...


def counting_text(words: int) -> str:
    """Return the model's answer of so many numbers."""
    return "".join(f"{n} " for n in range(words))


def check_everyday_use(start: StartClient, *, refusal: str) -> None:
    """Send, resume, stop, get parts, and fail; `refusal`: the problem's type where the chat's id is none."""
    sent = start("send").finish()
    assert (sent["first"]["status"], sent["first"]["texts"]) == ("ready", ["You said: hello there"])
    assert sent["second"]["texts"] == ["You said: once more"]
    assert sent["second"]["roles"] == ["user", "assistant", "user", "assistant"]

    resumed = start("resume").finish()
    assert counting_text(10) in resumed["dropped"]["texts"][0]
    assert len(resumed["dropped"]["texts"][0]) < len(counting_text(80))
    assert resumed["reloaded"]["texts"] == resumed["sameClient"]["texts"] == [counting_text(80)]
    assert resumed["sameClient"]["roles"] == ["user", "assistant"]
    assert (resumed["idle"]["status"], resumed["idle"]["roles"]) == ("ready", ["user"])

    stopped = start("stop").finish()
    assert (stopped["code"], stopped["chat"]["status"]) == (202, "ready")
    assert stopped["chat"]["metadata"]["stopped"] == {"by": "user", "reason": None}

    message = start("parts").finish()
    assert [part["type"] for part in message["parts"]] == ["step-start", "reasoning", "tool-clock", "text"]
    tool = message["parts"][2]
    assert (tool["state"], tool["input"]) == ("input-available", {"zone": "UTC"})
    assert message["metadata"]["usage"] == {"inputTokens": 3, "outputTokens": 4}

    failed = start("fail").finish()
    assert (failed["failing"]["status"], failed["failing"]["error"]) == ("error", "The model is overloaded.")
    assert failed["failing"]["texts"] == ["so far"]
    assert failed["refused"]["status"] == "error"
    assert f"urn:chunkspool:problem:{refusal}" in failed["refused"]["error"]


def check_returns(start: StartClient) -> None:
    """Reload after a tool has run in the browser, whatever the page has; return to an answer that nobody saw end."""
    used = start("tool").finish()
    assert used["active"] == 1
    question, answer = used["stayed"]
    assert [part["type"] for part in answer["parts"]] == ["step-start", "text", "tool-clock", "step-start", "text"]
    assert (answer["parts"][1]["text"], answer["parts"][2]["output"]) == ("Let me see. ", {"hour": 12})
    assert answer["metadata"]["stopped"]["by"] == "user"
    assert set(used["reloads"]) == {"nothing", "question", "call", "all", "loaded"}
    for had, messages in used["reloads"].items():
        assert messages == ([answer] if had == "nothing" else [question, answer]), had
    assert used["loaded"] == {"messages": [question, answer], "active": [], "before": None}

    away = start("away").finish()
    assert (away["cut"]["status"], len(away["cut"]["texts"][0]) < len(counting_text(300))) == ("ready", True)
    assert away["texts"] == [["count"], [counting_text(300)], ["and now?"], ["You said: and now?"]]
    assert away["loaded"] == away["shown"]


def check_a_deploy(start: StartClient, web: RestartedServer) -> str:
    """Restart the server in mid-answer, and resume. Return what the client was told meanwhile."""
    client = start("deploy")
    client.wait_for("restart")
    web.terminate()
    client.wait_for("ended")
    web.start()
    client.go_on()
    chat = client.finish()
    assert chat["cut"]["status"] == "error"
    assert chat["resumed"]["status"] == "ready"
    assert chat["resumed"]["roles"] == ["user", "assistant"]
    assert chat["loaded"] == chat["shown"]
    return str(chat["cut"]["error"])


def check_a_killed_worker(start: StartClient, sdk: int, replace_worker: Callable[[], object]) -> None:
    """Have the worker replaced in mid-answer: `replace_worker` kills the one that answers, and starts another."""
    client = start("restart")
    client.wait_for("kill")
    replace_worker()
    client.go_on()
    chat = client.finish()
    assert chat["status"] == "ready"
    assert chat["valid"] == [counting_text(80)]
    assert (chat["texts"] == chat["valid"]) == (sdk == 7)
    assert chat["metadata"]["attempt"] == 2
    assert chat["loaded"] == chat["shown"]


def check_conversations(start: StartClient) -> None:
    """Ask, regenerate, edit and stop, on two devices: each loads what the client has that was there all the time.

    So it is with a front end that sends all messages, and with one that sends only the last.
    """
    clients = [start("conversation", chat=f"last-only-{only}", lastOnly=only) for only in (False, True)]
    for client in clients:
        _check_conversation(client.finish())


def _check_conversation(steps: dict[str, Any]) -> None:
    for name, step in steps.items():
        assert step["loaded"] == step["shown"], name
    asked = ["one", "You said: one", "two", "You said: two"]
    assert steps["asked"]["texts"] == steps["regenerated"]["texts"] == asked
    assert steps["asked"]["shown"][:3] == steps["regenerated"]["shown"][:3]
    assert steps["asked"]["shown"][3]["id"] != steps["regenerated"]["shown"][3]["id"]
    assert steps["edited"]["texts"] == [*asked[:2], "II", "You said: II"]
    assert steps["edited"]["shown"][2]["id"] == steps["asked"]["shown"][2]["id"]
    assert steps["regenerated the first"]["texts"] == asked[:2]
    *before, ticking = steps["stopped"]["texts"]
    assert before == [*asked[:2], "three"]
    assert ticking.startswith("tick tick ")
    assert steps["stopped"]["shown"][-1]["metadata"]["stopped"]["by"] == "user"
