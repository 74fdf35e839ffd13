"""Two deployments in two databases of one server: Redis's channels know no database, chunkspool's do."""

from __future__ import annotations

from redis import Redis
from support.chats.logs import CHAT, read_log
from support.chats.spools import spool_for
from support.readers.reader_group import ReaderGroups
from support.waiting import eventually

from chunkspool.store.entries import read_frame
from chunkspool.store.keys import ChatKeys


def other_database(url: str) -> str:
    """Return the URL of database 1 of the same server."""
    return f"{url.rpartition('/')[0]}/1"


def test_readers_get_their_own_answers(reader_groups: ReaderGroups, redis_url: str) -> None:
    """Both chats have the same tenant and id, and both are written at the same time, event by event."""
    urls = {"ours": redis_url, "theirs": other_database(redis_url)}
    with spool_for(urls["ours"]) as ours, spool_for(urls["theirs"]) as theirs:
        generations = {"ours": ours.enqueue(CHAT, "x"), "theirs": theirs.enqueue(CHAT, "x")}
        readers = {name: reader_groups.open(url).follow(CHAT, 0) for name, url in urls.items()}
        with (
            ours.produce(CHAT, generations["ours"].generation_id) as our_out,
            theirs.produce(CHAT, generations["theirs"].generation_id) as their_out,
        ):
            for number in range(10):
                our_out.text(f"ours {number} ")
                their_out.text(f"theirs {number} ")
                for reader in readers.values():
                    reader.wait_for(3 + number)
            our_out.finish("stop")
            their_out.finish("stop")
    for name, reader in readers.items():
        reader.wait_for_end()
        assert reader.errors == []
        assert "".join(reader.texts) == "".join(f"{name} {number} " for number in range(10))
        assert reader.seqs == list(range(1, len(reader.seqs) + 1))


def test_a_stop_reaches_its_own_database_only(redis_url: str) -> None:
    """Even one generation id in both: a stop ends the one that it was asked for."""
    with spool_for(redis_url) as ours, spool_for(other_database(redis_url)) as theirs:
        made = [spool.enqueue(CHAT, "x", request_id="same").generation_id for spool in (ours, theirs)]
        with ours.produce(CHAT, made[0]) as our_out, theirs.produce(CHAT, made[1]) as their_out:
            our_out.text("a")
            their_out.text("b")
            theirs.stop(CHAT)
            eventually(lambda: their_out._outbox.interruption)  # noqa: SLF001 - the model is silent
            our_out.text("c")
            our_out.finish("stop")
    assert (our_out.state, their_out.state) == ("completed", "stopped")


def test_a_frame_of_another_log_is_not_taken(reader_groups: ReaderGroups, redis_url: str, client: Redis) -> None:
    """Whoever may publish on the channel can only make a reader read the log: it shows what the log has."""
    with spool_for(redis_url) as spool:
        made = spool.enqueue(CHAT, "x")
        reader = reader_groups.open(redis_url).follow(CHAT, 0)
        reader.wait_for(1)
        with spool.produce(CHAT, made.generation_id) as out:
            forged = b'2 1700000000000 0123456789ab 1700000000000\n{"type":"text.delta","g":"x","text":"forged"}'
            assert read_frame(forged)
            client.publish(ChatKeys("default", CHAT).live, forged)
            out.text("true")
            out.finish("stop")
        reader.wait_for_end()
    assert reader.texts == ["true"]
    assert reader.seqs == list(range(1, len(read_log(client)) + 1))
