"""The chaos checker works on logs from a real server."""

from __future__ import annotations

from redis import Redis
from support.chats.logs import CHAT, KEYS
from support.chats.spools import spool_for
from support.checker.check import check
from support.checker.observations import EnqueuedGeneration, ModelOutput, Observations, Reading
from support.checker.raw_log import read_raw_chat
from support.checker.violations import Rule

PIECES = [f"<1.{number}>" for number in range(1200)]


def test_a_real_log_has_no_violation_until_one_is_planted(redis_url: str, client: Redis) -> None:
    """The log spans more than one page: the checker reads what the producer wrote."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            for piece in PIECES:
                out.text(piece)
                out.data("mark", None)
        with spool.subscribe(CHAT) as entries:
            read = tuple((entry.seq, entry.raw) for entry in entries)
    asked = EnqueuedGeneration(generation.generation_id, (ModelOutput(1, "".join(PIECES)),))
    observations = Observations((asked,), (Reading("reader", 0, read, "idle", ended=True),))
    chat = read_raw_chat(client, CHAT)
    assert len(chat.entries) == 2 * len(PIECES) + 3
    assert check(chat, observations) == []
    client.xdel(KEYS.log, "1100-0")
    assert Rule.HOLE in {violation.rule for violation in check(read_raw_chat(client, CHAT), observations)}
