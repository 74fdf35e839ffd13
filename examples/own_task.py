"""A Celery task of your own that writes generations.

The worker loads it by `CHUNKSPOOL_IMPORTS=examples.own_task`; web apps hand generations to it with
`CHUNKSPOOL_TASK=examples.answer`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from celery import shared_task
from celery.exceptions import Reject

from chunkspool import Spool
from chunkspool.errors import NotClaimed, Released

spool = Spool.from_env()  # nothing connects before the first task


def my_model(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "You asked: "
    yield str(messages[-1]["content"])


@shared_task(name="examples.answer", acks_late=True, reject_on_worker_lost=True, release=spool.release)
def answer(tenant: str, chat_id: str, generation_id: str) -> None:
    chats = spool.for_tenant(tenant)
    try:
        with chats.produce(chat_id, generation_id, wait=chats.settings.log.lease) as out:  # claims it
            for piece in my_model(out.request.messages):
                out.text(piece)  # fills a buffer; raises Stopped after a stop
    except Released as released:  # this worker shuts down: another one runs the message
        raise Reject(released, requeue=True) from None
    except NotClaimed as error:  # the generation has ended, or another attempt of it is alive
        if error.outcome == "held":
            raise Reject(error, requeue=True) from None
