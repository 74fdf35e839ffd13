"""Promise 1, order: a chat's events have the seqs 1, 2, 3 …, however many writers there are."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from redis import Redis
from support.chats.logs import CHAT, KEYS, ending_of, of_generation, read_log, text_of, types_of
from support.chats.spools import spool_for
from support.chats.writer_processes import pieces_of, write_concurrently

PROCESSES, THREADS = 4, 20


def test_eighty_writers_of_one_chat_leave_no_gaps_and_no_duplicates(redis_url: str, client: Redis) -> None:
    """Four processes with twenty threads each: seqs 1 to n, each answer complete, in order and with one ending."""
    with spool_for(redis_url) as spool:
        spool.set_policy(active=PROCESSES * THREADS)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(PROCESSES, mp_context=spawn) as pool:
        crowds = list(pool.map(write_concurrently, [redis_url] * PROCESSES, range(PROCESSES), [THREADS] * PROCESSES))
    names = {generation_id: name for crowd in crowds for generation_id, name in crowd.items()}
    assert len(names) == PROCESSES * THREADS

    log = read_log(client)
    assert {line.event["generation"] for line in log} == set(names)
    for generation_id, name in names.items():
        lines = of_generation(log, generation_id)
        assert [line.type for line in lines[:2]] == ["generation.queued", "generation.started"]
        assert text_of(log, generation_id) == "".join(pieces_of(name))
        assert [line.event["value"] for line in lines if line.type == "data"] == [9, 19, 29, 39]
        assert ending_of(log, generation_id)["type"] == "generation.completed"
    assert client.hget(KEYS.head, "active") is None


def test_events_keep_the_order_in_which_they_were_written(redis_url: str, client: Redis) -> None:
    """Text, reasoning, tools, data and usage of an answer are in the log as the model's loop wrote them."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, generation.generation_id) as out:
            out.reasoning("hm")
            out.text("a")
            out.tool_call("1", "clock", "{}")
            out.tool_result("1", {"hour": 12})
            out.text("b")
            out.data("colour", "red")
            out.usage(3, 4)
            out.text("c")
            out.finish("length")
    lines = of_generation(read_log(client), generation.generation_id)
    said = ["reasoning.delta", "text.delta", "tool.call", "tool.result", "text.delta", "data", "usage", "text.delta"]
    assert [line.type for line in lines] == ["generation.queued", "generation.started", *said, "generation.completed"]
    assert lines[-1].event["finish_reason"] == "length"


def test_a_second_answer_continues_the_seqs(redis_url: str, client: Redis) -> None:
    """The counter belongs to the chat, not to the generation."""
    with spool_for(redis_url) as spool:
        for expected in (0, 4, 8):
            generation = spool.enqueue(CHAT, "hello")
            assert generation.after == expected
            with spool.produce(CHAT, generation.generation_id) as out:
                out.text("hi")
    assert len(read_log(client)) == 12


def test_seqs_stay_exact_in_the_quadrillions(redis_url: str, client: Redis) -> None:
    """Lua counts in doubles and prints them rounded; seqs stay exact in the log, in frames and in replies."""
    so_far = 2**53 - 100
    client.set(KEYS.seq, so_far, ex=60)
    with spool_for(redis_url) as spool, client.pubsub() as live:
        live.subscribe(KEYS.live)
        asked = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, asked.generation_id) as out:
            for piece in "abcdefg":
                out.data("letter", piece)
        seqs = [entry.seq for entry in spool.read(CHAT, asked.after)]
        messages = iter(lambda: live.get_message(timeout=1), None)
        frames = [message["data"] for message in messages if message["data"] != b"."]
    assert seqs == list(range(so_far + 1, so_far + len(seqs) + 1))
    assert len(seqs) == 10
    assert [entry_id for entry_id, _ in client.xrange(KEYS.log)] == [b"%d-0" % seq for seq in seqs]
    firsts = [int(frame.split()[0]) for frame in frames[1:]]
    assert set(firsts) <= set(seqs)
    assert firsts[0] == seqs[0]


def test_a_lost_counter_is_restored_from_the_log(redis_url: str, client: Redis) -> None:
    """Where the counter is gone but the log remains, seqs continue after the log, not at 1."""
    with spool_for(redis_url) as spool:
        first = spool.enqueue(CHAT, "hello")
        with spool.produce(CHAT, first.generation_id) as out:
            out.text("before")
        client.delete(KEYS.seq)
        second = spool.enqueue(CHAT, "hello again")
        assert second.after == 4
        with spool.produce(CHAT, second.generation_id) as out:
            client.delete(KEYS.seq)
            out.text("after")
    log = read_log(client)
    assert text_of(log, second.generation_id) == "after"
    assert types_of(log, second.generation_id)[-1] == "generation.completed"


def test_many_writers_at_once_restore_a_lost_counter_once(redis_url: str, client: Redis) -> None:
    """However many find the counter gone, none of them starts at 1, and none leaves a gap."""
    with spool_for(redis_url) as spool:
        generation = spool.enqueue(CHAT, "hello")
        client.delete(KEYS.seq)
        with ThreadPoolExecutor(20) as pool:
            made = list(pool.map(lambda n: spool.enqueue(CHAT, f"hello {n}", on_active="allow"), range(20)))
    assert [line.type for line in read_log(client)] == ["generation.queued"] * 21
    assert sorted(one.after for one in (generation, *made)) == list(range(21))
