"""Blocks of a digest: merged and packed, they fold and stream as the events of which they were made."""

from __future__ import annotations

import zlib
from binascii import b2a_base64
from itertools import pairwise

import pytest
from support.chats.generated_entries import entries_of, random_log

from chunkspool import Entry, fold
from chunkspool.dialects.usechat import UseChatEncoder
from chunkspool.errors import CorruptLog
from chunkspool.events import DataEvent, TextDelta
from chunkspool.store.blocks import MAX_PLAIN, Block, BlockBuilder, blocks_of_index, pack, unpack
from chunkspool.store.entries import Unreadable, item_of

SEEDS = range(60)
SIZES = (1, 2, 3, 7, 20, 1000)
G = "g0"


def block_of(entries: list[Entry]) -> Block:
    """Return the block of consecutive entries, read as they are from a log."""
    builder = BlockBuilder(entries[0].seq)
    read = [item_of(entry.seq, entry.at, entry.raw) for entry in entries]
    builder.add(entry for entry in read if not isinstance(entry, Unreadable))
    return builder.build()


def blocks_of(log: list[Entry], size: int) -> list[Block]:
    """Return the log in blocks of so many entries."""
    return [block_of(log[at : at + size]) for at in range(0, len(log), size)]


def entries_in(blocks: list[Block], wanted: set[str] | None = None) -> list[Entry]:
    """Return what the blocks hold after they were stored."""
    return [entry for block in blocks for entry in block.entries(unpack(pack(block.plain or b"")), wanted, "log")]


@pytest.mark.parametrize("size", SIZES)
def test_blocks_fold_to_the_same_answers(size: int) -> None:
    """In the same order, however the log was cut, and each generation alone as well."""
    for seed in SEEDS:
        log = random_log(seed, generations=4)
        blocks = blocks_of(log, size)
        whole = fold(entry.event for entry in log)
        assert fold(entry.event for entry in entries_in(blocks)) == whole, seed
        alone = fold(entry.event for entry in entries_in(blocks, {G}))
        assert alone == tuple(answer for answer in whole if answer.generation_id == G), seed


@pytest.mark.parametrize("sdk", [6, 7])
@pytest.mark.parametrize("size", SIZES)
def test_blocks_stream_as_the_same_message(size: int, sdk: int) -> None:
    """A `useChat` client gets the same chunks, restarts included: merging keeps the order of parts."""
    for seed in SEEDS:
        log = random_log(seed)
        plain, merged = UseChatEncoder(G, sdk=sdk), UseChatEncoder(G, sdk=sdk)
        for entry in log:
            plain.add(entry)
        for entry in entries_in(blocks_of(log, size), {G}):
            merged.add(entry)
        assert (merged.take_chunks(), merged.done) == (plain.take_chunks(), plain.done), seed


def test_adjacent_deltas_of_a_generation_become_one() -> None:
    """Also where other generations have written in between, and whatever characters they have."""
    pieces = ["a", '"', "\\", '\\"', "\n", "é", "🙂", "\u2028", "", '","x":"', "}"]
    log = entries_of([TextDelta(generation_id=one, text=piece) for piece in pieces for one in ("g", "h")])
    first, second = entries_in([block_of(log)])
    assert [first.event, second.event] == [TextDelta(generation_id=one, text="".join(pieces)) for one in ("g", "h")]


def test_what_a_newer_version_says_is_kept() -> None:
    """A field of a delta that this version does not know, an unknown event: nothing is merged away."""
    raw = [
        b'{"type":"text.delta","generation":"g","text":"a"}',
        b'{"type":"text.delta","generation":"g","text":"b","lang":"en"}',
    ]
    raw += [b'{"type":"from.tomorrow","generation":"g","x":1}', b'{"type":"text.delta" ,"generation":"g","text":"c"}']
    log = [item for at, one in enumerate(raw, 1) if isinstance(item := item_of(at, at, one), Entry)]
    kept = entries_in([block_of(log)])
    assert [entry.raw for entry in kept[:3]] == raw[:3]
    assert kept[3].event == TextDelta(generation_id="g", text="c")


def test_an_index_tells_the_blocks() -> None:
    """What is needed to choose blocks: which generations begin where, and where attempts became void."""
    for seed in SEEDS:
        log = random_log(seed, generations=4)
        blocks = blocks_of(log, 5)
        index = b"".join(block.line() + b"\n" for block in blocks)
        read = blocks_of_index(index)
        assert read is not None
        assert [(one.first, one.last, one.begun, one.restarted) for one in read] == [
            (one.first, one.last, one.begun, one.restarted) for one in blocks
        ]
        for block in read:
            inside = [entry for entry in log if block.first <= entry.seq <= block.last]
            assert all(block.holds({entry.generation_id}) for entry in inside)
            assert not block.holds({"nobody"})


@pytest.mark.parametrize(
    "index", [b"", b"x", b"[1]", b"\xff\n", b"[1,5,1,9,[],[],[]]\n[7,9,1,9,[],[],[]]", b"[" * 5000]
)
def test_an_index_that_is_none_is_no_index(index: bytes) -> None:
    """Foreign bytes, a wrong shape, a hole between two blocks."""
    assert blocks_of_index(index) is None


def test_a_stored_block_is_checked_before_it_is_used() -> None:
    """Foreign bytes, a block that is cut off, and one that unpacks to very much: an error, and little memory."""
    log = entries_of([DataEvent(generation_id="g", name="n", value=i) for i in range(9)])
    block = block_of(log)
    stored = pack(block.plain or b"")
    for spoiled in (b"", b"x", b"no zlib!", stored[:-4], b2a_base64(zlib.compress(bytes(MAX_PLAIN + 1)))):
        with pytest.raises(ValueError, match="Error|cut off|base64|padding"):
            unpack(spoiled)
    for plain in (b"", b"{}\n", b"[]", b'[["g",[3]]]\n{}', b'[["g",[-1]]]\n', b'[["g",[2]]]\n{}'):
        with pytest.raises((ValueError, CorruptLog)):
            list(block.entries(plain, None, "log"))


def test_blocks_of_one_log_follow_each_other() -> None:
    """Each begins where the one before it ends."""
    blocks = blocks_of(random_log(3, generations=4), 4)
    assert all(block.first == before.last + 1 for before, block in pairwise(blocks))
