"""A Celery task of your own that writes generations.

`CHUNKSPOOL_IMPORTS=examples.own_task` loads it into the worker; an app of your own has its `imports`. Web apps hand
generations to it with `CHUNKSPOOL_TASK=examples.answer`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chunkspool import Producer
from chunkspool.worker import generation_task


def my_model(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "You asked: "
    yield str(messages[-1]["content"])


@generation_task(name="examples.answer")
def answer(out: Producer) -> None:
    for piece in my_model(out.request.messages):
        out.text(piece)  # fills a buffer; raises Stopped after a stop
