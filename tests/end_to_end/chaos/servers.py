"""The Redis of a run: a primary and its replica behind one address, which fail, swap, forget, and lose the time."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from end_to_end.chaos.clock import Clock
from end_to_end.chaos.faults import Fault, Loss, now_ms
from end_to_end.chaos.plan import FaultKind
from redis import Redis
from support.servers.address import Address
from support.servers.failover import offset
from support.servers.redis_server import PrivateServer
from support.servers.trouble import demotion, failed_snapshot
from support.waiting import eventually

from chunkspool.demo.ports import LOOPBACK
from chunkspool.demo.redis_server import Binary

OPTIONS = ("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0")
REPLICATED = 60.0
"""Seconds within which the replica has everything again, on a machine with much else to do."""
LAG = 2.0
"""Seconds at most until the address follows a failover."""


@dataclass(eq=False)
class ChaosServers:
    """Two servers. Only the main thread may use it, because it starts processes."""

    primary: PrivateServer
    replica: PrivateServer
    address: Address
    clock: Clock
    folder: Path
    faults: list[Fault] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    _copy: tuple[int, Path] | None = None

    @classmethod
    def start(cls, binary: Binary, folder: Path) -> ChaosServers:
        """Start both, and the address."""
        clock = Clock(folder / "clock")
        with_clock = clock.apply_to(binary)
        first, second = (PrivateServer(with_clock, folder / name, OPTIONS) for name in ("redis-a", "redis-b"))
        first.start()
        servers = cls(first, second, Address.start(folder / "address", first.port), clock, folder)
        servers._start_replica()
        return servers

    def inject(self, kind: FaultKind, draw: float, seconds: float) -> bool:
        """Inject a fault, and wait until it is over; `draw` (0 to 1) chooses, `seconds` is how long it lasts.

        Return False if this server cannot suffer it.
        """
        acts: dict[FaultKind, Callable[[float, float], None]] = {
            FaultKind.RESTART: self._restart,
            FaultKind.CUT: self._cut,
            FaultKind.FAILOVER: self._fail_over,
            FaultKind.DEMOTION: lambda _, seconds: self._suffer(demotion, seconds),
            FaultKind.MISCONF: lambda _, seconds: self._suffer(failed_snapshot, seconds),
            FaultKind.COPY: self._keep_copy,
            FaultKind.ROLLBACK: self._roll_back,
            FaultKind.CLOCK: self._step_clock,
        }
        if kind is FaultKind.CLOCK and not self.clock.can_step:
            return False
        if kind is FaultKind.ROLLBACK and self._copy is None:
            return False
        began = now_ms()
        acts[kind](draw, seconds)
        if kind is not FaultKind.COPY:
            self.faults.append(Fault(kind, "", began, now_ms()))
        return True

    def is_calm(self, db: int) -> bool:
        """Tell whether the sweeps of a database's queues have nothing left to look after."""
        with self.primary.client() as client:
            client.select(db)
            return not any(client.zcard(index) for index in client.scan_iter("cs:{index}:unfinished:*", count=10_000))

    def stop(self) -> None:
        """End everything."""
        self.address.stop()
        for server in (self.primary, self.replica):
            if server.alive:
                server.kill()

    def _restart(self, draw: float, seconds: float) -> None:
        if draw < 0.5:
            self.primary.kill()
        else:
            self.primary.stop()
        time.sleep(seconds)
        self.primary.start()

    def _cut(self, draw: float, _seconds: float) -> None:
        rng = random.Random(draw)  # noqa: S311 - repeatable, not a secret
        with self.primary.client() as client:
            own = client.client_id()
            every = [
                int(one["id"]) for one in client.client_list() if int(one["id"]) != own and "S" not in one["flags"]
            ]
            for one in rng.sample(every, (len(every) + 1) // 2):
                client.client_kill_filter(_id=str(one))

    def _fail_over(self, draw: float, _seconds: float) -> None:
        """Let the replica take over, with nothing lost. Old connections stay; the address follows a little later."""
        with self.primary.client() as old, self.replica.client() as new:
            eventually(lambda: new.info("replication").get("master_link_status") == "up", REPLICATED)
            old.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            try:
                eventually(lambda: offset(new, "slave_repl_offset") >= offset(old, "master_repl_offset"))
                new.replicaof("NO", "ONE")
                old.replicaof(LOOPBACK, self.replica.port)
            finally:
                old.execute_command("CLIENT", "UNPAUSE")
        self.primary, self.replica = self.replica, self.primary
        time.sleep(draw * LAG)
        self.address.lead_to(self.primary.port)

    def _suffer(self, trouble: Callable[[PrivateServer], AbstractContextManager[None]], seconds: float) -> None:
        with trouble(self.primary):
            time.sleep(seconds)

    def _keep_copy(self, _draw: float, _seconds: float) -> None:
        """Copy the primary's files, as a backup or a lagging disk has them."""
        self.primary.pause()
        try:
            at = now_ms()
            kept = self.folder / f"copy-{at}"
            shutil.copytree(self.primary.folder / "data", kept)
        finally:
            self.primary.resume()
        self._copy = (at, kept)

    def _roll_back(self, _draw: float, seconds: float) -> None:
        """Let the primary come back with the copy: what came after it is gone. Its own files are kept for the judge."""
        assert self._copy is not None
        copied, kept = self._copy
        self._copy = None
        self.replica.kill()
        self.primary.kill()
        ended, data = now_ms(), self.primary.folder / "data"
        before = self.folder / f"before-{ended}"
        data.rename(before)
        kept.rename(data)
        shutil.rmtree(self.replica.folder / "data")
        time.sleep(seconds)
        self.primary.start()
        self.losses.append(Loss(copied, ended, now_ms(), before))
        self._start_replica()

    def _step_clock(self, draw: float, _seconds: float) -> None:
        self.clock.step(draw)

    def _start_replica(self) -> None:
        self.replica.start()
        with self.replica.client() as client:
            client.replicaof(LOOPBACK, self.primary.port)

    def read_before(self, loss: Loss, read: Callable[[Redis], None]) -> None:
        """Let `read` see what Redis held just before it forgot."""
        folder = self.folder / f"look-{loss.ended}"
        shutil.copytree(loss.data, folder / "data")
        server = PrivateServer(self.primary.binary, folder, OPTIONS)
        server.start()
        try:
            with server.client() as client:
                read(client)
        finally:
            server.kill()
            shutil.rmtree(folder)
