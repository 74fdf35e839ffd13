"""A test of a task of your own: `pip install 'chunkspool[testing]'`, then `pytest examples/test_own_task.py`."""

import pytest

from chunkspool import Spool
from chunkspool.testing import assert_answers
from examples import own_task


@pytest.mark.chunkspool(task=own_task.answer.name)
@pytest.mark.usefixtures("chunkspool_worker")
def test_it_answers(chunkspool_spool: Spool) -> None:
    chunkspool_spool.enqueue("chat", "why?")
    assert_answers(chunkspool_spool, "chat", "You asked: why?")
