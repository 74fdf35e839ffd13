"""Which connection a failover has left behind, and which call is sent again: decided without a server."""

from __future__ import annotations

import pytest

from chunkspool.errors import StoreBusy, StoreError, StoreFull, StoreNotReady, StoreRefused, StoreUnavailable
from chunkspool.store import failover
from chunkspool.store.failover import CallRetry, PrimaryWatch, Role

PRIMARY, REPLICA = Role(1, primary=True), Role(1, primary=False)
OTHER_PRIMARY, OTHER_REPLICA = Role(2, primary=True), Role(2, primary=False)


@pytest.fixture
def watch() -> PrimaryWatch:
    """Give one whose connections lead to a primary."""
    watch = PrimaryWatch()
    watch.open(PRIMARY)
    return watch


def test_a_primary_that_stays_one_is_kept(watch: PrimaryWatch) -> None:
    """However often it is asked."""
    for _ in range(3):
        watch.check(PRIMARY)
    assert not watch.stranded


def test_a_demoted_server_is_left(watch: PrimaryWatch) -> None:
    """It was the primary when the connection was opened, and is a replica now."""
    with pytest.raises(StoreNotReady, match="no longer the primary"):
        watch.check(REPLICA)


def test_a_replica_from_the_start_is_accepted() -> None:
    """Somebody reads there on purpose; if it becomes a primary, it is watched like one."""
    watch = PrimaryWatch()
    watch.open(REPLICA)
    watch.check(REPLICA)
    assert not watch.stranded
    watch.check(PRIMARY)
    with pytest.raises(StoreNotReady):
        watch.check(REPLICA)


def test_while_the_address_still_leads_to_the_old_server(watch: PrimaryWatch) -> None:
    """Opened anew, it is a replica again: it is used, but asked by new connections until one finds a primary."""
    with pytest.raises(StoreNotReady):
        watch.check(REPLICA)
    watch.open(OTHER_REPLICA)
    assert watch.stranded
    for number in range(3, 6):
        watch.check(Role(number, primary=False))
    assert watch.stranded
    with pytest.raises(StoreNotReady):
        watch.check(Role(6, primary=True))
    watch.open(Role(7, primary=True))
    assert not watch.stranded


def test_a_server_that_is_promoted_again_is_kept(watch: PrimaryWatch) -> None:
    """A demotion that is taken back on the same connection is the end of it."""
    watch.open(OTHER_REPLICA)
    assert watch.stranded
    watch.check(OTHER_PRIMARY)
    assert not watch.stranded


def test_a_new_connection_beside_tells_nothing_of_the_old_one(watch: PrimaryWatch) -> None:
    """The one that asks was lost and opened anew: it may lead to another server than the one that listens."""
    with pytest.raises(StoreNotReady, match="may lead to another server"):
        watch.check(OTHER_PRIMARY)
    with pytest.raises(StoreNotReady, match="may lead to another server"):
        watch.check(OTHER_REPLICA)


def test_a_server_that_does_not_say_is_left_alone(watch: PrimaryWatch) -> None:
    """Some proxies know no HELLO: nothing is watched there."""
    watch.check(None)
    watch.open(None)
    watch.check(REPLICA)
    assert not watch.stranded


@pytest.mark.parametrize("text", [str, str.encode], ids=["text", "bytes"])
@pytest.mark.parametrize("shape", [dict, list], ids=["RESP3", "RESP2"])
def test_both_protocols_are_read(text: type, shape: type) -> None:
    """A map or a list, in bytes or in text."""
    said = {text("server"): text("redis"), text("id"): 7, text("role"): text("replica"), text("modules"): []}
    reply = said if shape is dict else [part for pair in said.items() for part in pair]
    assert failover._read_role(reply) == Role(7, primary=False)  # noqa: SLF001 - no server says all four
    assert failover._read_role(shape()) is None  # noqa: SLF001 - the same


def tries(*errors: StoreError, patient: bool = True) -> int:
    """Return how many of the errors are survived."""
    retry = CallRetry(patient=patient)
    for number, error in enumerate(errors):
        try:
            pause = retry.pause_after(error, 7)
        except type(error):
            return number
        assert 0 < pause <= failover.LONGEST_PAUSE
    return len(errors)


def test_a_failover_is_waited_for() -> None:
    """From the first server that is not ready; within it, one that cannot be reached as well."""
    away, demoted = StoreUnavailable("away"), StoreNotReady("demoted")
    assert tries(away) == 0
    assert tries(demoted) == 1
    assert tries(demoted, away, demoted) == 3
    assert tries(demoted, StoreFull("full")) == 1
    assert tries(demoted, StoreRefused("no right")) == 1


def test_who_is_in_a_hurry_is_told_at_once() -> None:
    """A hub's own connection reconnects by itself."""
    assert tries(StoreNotReady("demoted"), patient=False) == 0


def test_a_failover_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After two seconds it is raised."""
    assert failover.PATIENCE == 2
    monkeypatch.setattr(failover, "PATIENCE", -1.0)
    assert tries(StoreNotReady("demoted")) == 0


def test_a_full_pool_is_waited_for_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others hold the client's connections: ten seconds, and the number of our calls is said."""
    busy = StoreBusy("Too many connections")
    assert tries(*[busy] * 20) == 20
    monkeypatch.setattr(failover.slots, "WAIT_SECONDS", 0.0)
    with pytest.raises(StoreBusy, match="became free within 0 seconds: 7 calls are under way"):
        CallRetry(patient=True).pause_after(busy, 7)
