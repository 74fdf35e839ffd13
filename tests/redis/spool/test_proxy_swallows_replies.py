"""The outage tests' proxy works as described: the server has done the work, but the client cannot know."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.retry import Retry
from support.servers.proxy import Proxy
from support.servers.redis_server import PrivateServer
from support.waiting import eventually


@pytest.fixture
def proxy(redis_server: PrivateServer, redis_url: str) -> Iterator[Proxy]:
    """Provide a proxy in front of an empty server."""
    assert redis_url == redis_server.url
    with Proxy(redis_server.port) as up:
        yield up


def client_through(proxy: Proxy, **options: object) -> Redis:
    """Return a client of the proxy that never retries."""
    return Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 0), **options)


@pytest.mark.parametrize("protocol", [2, 3])
def test_the_server_executed_a_request_whose_reply_was_lost(proxy: Proxy, client: Redis, protocol: int) -> None:
    """The second INCR was counted although its caller got a connection error, in both protocols."""
    with client_through(proxy, protocol=protocol) as outside:
        assert outside.incr("counter") == 1
        proxy.swallow_next_reply(b"INCRBY counter")
        with pytest.raises(Unreachable):
            outside.incr("counter")
        assert client.get("counter") == b"2"
        assert proxy.swallowed == 1


def test_a_retrying_client_executes_a_request_twice(proxy: Proxy, client: Redis) -> None:
    """It counts once too often: the damage that idempotent appends must prevent can be shown."""
    with Redis.from_url(proxy.url, retry=Retry(NoBackoff(), 1)) as outside:
        outside.ping()
        proxy.swallow_next_reply(b"INCR")
        assert outside.incr("counter") == 2
    assert client.get("counter") == b"2"


def test_only_the_next_matching_request_loses_its_reply(proxy: Proxy) -> None:
    """Requests before the match and after it pass."""
    with client_through(proxy) as outside:
        proxy.swallow_next_reply(b"INCR")
        assert outside.set("other", 1)
        with pytest.raises(Unreachable):
            outside.incr("counter")
        assert outside.incr("counter") == 2
        assert proxy.swallowed == 1


def test_two_calls_lose_two_replies(proxy: Proxy) -> None:
    """Calls to `swallow_next_reply` add up."""
    with client_through(proxy) as outside:
        proxy.swallow_next_reply(b"INCR")
        proxy.swallow_next_reply(b"INCR")
        for _ in range(2):
            with pytest.raises(Unreachable):
                outside.incr("counter")
        assert outside.incr("counter") == 3
        assert proxy.swallowed == 2


def test_a_script_whose_reply_is_lost_has_run(proxy: Proxy, client: Redis) -> None:
    """EVALSHA, which every write of the project uses, can be matched."""
    with client_through(proxy) as outside:
        script = outside.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        script(keys=["counter"], args=[1])
        proxy.swallow_next_reply(b"EVALSHA")
        with pytest.raises(Unreachable):
            script(keys=["counter"], args=[10])
    assert client.get("counter") == b"11"


def test_a_request_larger_than_any_buffer_is_executed_completely(proxy: Proxy, client: Redis) -> None:
    """A request in many packets is forwarded to its end before the connection is closed."""
    payload = b"x" * 1_000_000
    with client_through(proxy) as outside:
        proxy.swallow_next_reply(b"SET large")
        with pytest.raises(Unreachable):
            outside.set("large", payload)
    assert client.get("large") == payload


def test_in_a_pipeline_everything_up_to_the_lost_reply_is_executed(proxy: Proxy, client: Redis) -> None:
    """The lost reply is found by counting, so 2,000 earlier replies are not mistaken for it."""
    with client_through(proxy) as outside, outside.pipeline(transaction=False) as batch:
        for number in range(2_000):
            batch.set(f"key-{number}", "v" * 100)
        batch.incr("last")
        proxy.swallow_next_reply(b"INCRBY last")
        with pytest.raises(Unreachable):
            batch.execute()
    assert client.get("last") == b"1"
    assert client.dbsize() == 2_001 + 1  # the slots that workers offer


def test_pushed_messages_are_not_taken_for_replies(proxy: Proxy, client: Redis) -> None:
    """A message pushed to a subscriber does not trigger another connection's lost reply."""
    with client_through(proxy, protocol=3) as outside, outside.pubsub() as listener:
        listener.subscribe("news")
        assert eventually(lambda: listener.get_message(timeout=0.1))
        proxy.swallow_next_reply(b"INCR")
        client.publish("news", "hello")
        assert eventually(lambda: listener.get_message(timeout=0.1))
        with pytest.raises(Unreachable):
            outside.incr("counter")
    assert client.get("counter") == b"1"


def test_cut_ends_a_blocked_call_and_lets_the_client_back_in(proxy: Proxy, client: Redis) -> None:
    """A waiting client gets its error at once and may reconnect."""
    with client_through(proxy) as outside, ThreadPoolExecutor() as pool:
        blocked = pool.submit(outside.blpop, "nothing", 30)
        eventually(lambda: client.info("clients")["blocked_clients"])
        proxy.cut()
        with pytest.raises(Unreachable):
            blocked.result(timeout=5)
        assert outside.ping()


def test_refuse_is_down_and_accept_is_up_on_the_same_port(proxy: Proxy) -> None:
    """While down, connections are refused; afterwards the address is the same."""
    port = proxy.port
    with client_through(proxy) as outside:
        assert outside.ping()
        proxy.refuse()
        for _ in range(2):
            with pytest.raises(Unreachable):
                outside.ping()
        proxy.accept()
        assert outside.ping()
    assert proxy.port == port


def test_the_proxy_closes_the_server_side_of_a_client_that_left(proxy: Proxy, client: Redis) -> None:
    """It keeps no connection to the server open for a client that is gone."""
    before = client.info("clients")["connected_clients"]
    with client_through(proxy) as outside:
        outside.ping()
        assert client.info("clients")["connected_clients"] == before + 1
    eventually(lambda: client.info("clients")["connected_clients"] == before)
