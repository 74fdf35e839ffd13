"""Tasks of the Django project that write generations, and keep the answers in its database."""

from __future__ import annotations

import asyncio
import time

from support.django_shop.models import Note

from chunkspool import Producer
from chunkspool.worker import generation_task


def question_of(out: Producer) -> str:
    """Return what was asked."""
    return str(out.request.messages[-1]["content"])


@generation_task(name="shop.answer")
def answer(out: Producer) -> None:
    """Say the question again, slowly if it says so; fail if it says that."""
    question = question_of(out)
    for word in question.split():
        out.text(f"{word} ")
        time.sleep(0.3 if "slow" in question else 0)
    if "break" in question:
        raise ValueError("the question broke it")
    Note.objects.create(text=question)


@generation_task(name="shop.answer_async")
async def answer_async(out: Producer) -> None:
    """Do the same in a coroutine."""
    question = question_of(out)
    for word in question.split():
        out.text(f"{word} ")
        await asyncio.sleep(0.3 if "slow" in question else 0)
    if "break" in question:
        raise ValueError("the question broke it")
    await Note.objects.acreate(text=question)
