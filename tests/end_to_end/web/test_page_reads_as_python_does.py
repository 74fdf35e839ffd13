"""The page's JavaScript, in a real browser, makes the same conversation of the same events as Python does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from support.chats.spools import async_spool_for
from support.web.web_server import serve_app

from chunkspool.web import allow_all, create_app

FOLDER = Path(__file__).parents[2] / "vectors" / "conversation"
VECTORS = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))]
FOLD = """
async ({ events, through }) => {
  const { applyEvent, emptyAnswer, isKnown } = await import("/page/answers.js");
  const { conversation } = await import("/page/conversation.js");
  const answers = new Map();
  for (const event of events.filter(isKnown)) {
    if (!answers.has(event.generation)) answers.set(event.generation, emptyAnswer(event.generation));
    applyEvent(answers.get(event.generation), event);
  }
  const idsOf = (messages) => messages.map((message) => message.id);
  return {
    answers: [...answers.values()].map(({ generation, state, text, answers, replaces, asked }) => (
      { generation, state, text, answers, replaces, asked: idsOf(asked) }
    )),
    turns: conversation([...answers.values()], through).map((turn) => ({ ...turn, messages: idsOf(turn.messages) })),
  };
}
"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """Give a page of the app, whose modules can be imported; no Redis is asked."""
    app = create_app(async_spool_for("redis://127.0.0.1:1"), allow_all, page=True, closes_spool=True)
    with serve_app(app) as site:
        opened = browser.new_page()
        opened.goto(f"{site.url}/page/icon.svg")
        yield opened
        opened.close()


def fold(page: Page, vector: dict[str, Any], through: str | None = None) -> Any:
    """Return what the page's modules make of a vector's events."""
    return page.evaluate(FOLD, {"events": vector["events"], "through": through})


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_the_same_conversation(page: Page, vector: dict[str, Any]) -> None:
    """The answers, and the turns that count with their versions."""
    assert fold(page, vector) == {"answers": vector["answers"], "turns": vector["turns"]}


def test_a_version_that_does_not_count_is_looked_at_with_what_followed_it(page: Page) -> None:
    """The newest path through an answer; whoever looks at one that counts sees what counts."""
    (vector,) = (one for one in VECTORS if one["name"] == "The conversation goes on behind the edited question")
    for through, path in (
        ("g1", ["g1", "g4", "g6"]),
        ("g2", ["g1", "g2", "g3"]),
        ("g4", ["g1", "g4", "g6"]),
        ("g5", ["g1", "g4", "g5"]),
        ("unknown", ["g1", "g4", "g6"]),
    ):
        turns = fold(page, vector, through)["turns"]
        assert [turn["answer"] for turn in turns] == path
        assert turns[1]["versions"] == ["g2", "g4"]
