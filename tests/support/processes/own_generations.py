"""Tasks of somebody's own that write generations."""

from __future__ import annotations

import asyncio
import os
import time

from support.processes.own_tasks import note

from chunkspool import Producer
from chunkspool.worker import generation_task


@generation_task(name="yours.answer")
def answer(out: Producer) -> None:
    """Say the question again, slowly if it says so."""
    question = str(out.request.messages[-1]["content"])
    note(f"answer {os.getpid()}")
    for word in question.split():
        out.text(f"{word} ")
        time.sleep(0.3 if "slow" in question else 0)
    if "break" in question:
        raise ValueError("the question broke it")


@generation_task(name="yours.answer_async")
async def answer_async(out: Producer) -> None:
    """Do the same in a coroutine."""
    question = str(out.request.messages[-1]["content"])
    note(f"answer_async {os.getpid()}")
    for word in question.split():
        out.text(f"{word} ")
        await asyncio.sleep(0.3 if "slow" in question else 0)
    if "break" in question:
        raise ValueError("the question broke it")
