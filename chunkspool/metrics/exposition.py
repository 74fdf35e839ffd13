"""What a scrape gets: everything that was counted, as text. Loads `prometheus_client`."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

from pydantic import SecretStr

from chunkspool.errors import ExtraMissing
from chunkspool.metrics import process_files
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.metrics.spool_gauges import SpoolGauges
from chunkspool.observer import Observer, unguarded
from chunkspool.results import Stats
from chunkspool.settings import Settings

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.exposition import choose_encoder
except ModuleNotFoundError as missing:
    raise ExtraMissing("metrics", "prometheus-client") from missing


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scrape is answered."""

    status: HTTPStatus
    content_type: str
    body: bytes


class Exposition:
    """The metrics of an observer, as its process, or all processes of the folder together, have counted them."""

    def __init__(self, observer: PrometheusObserver, settings: Settings) -> None:
        """Nothing is read yet."""
        self._observer = observer
        self.token = settings.metrics.metrics_token
        self._told: set[type] = set()
        path = process_files.folder()
        # Its own: an observer may be shown in several places.
        self.registry = CollectorRegistry()
        self.registry.register(observer.registry if path is None else process_files.ProcessFiles(path))

    @classmethod
    def find(cls, observer: Observer, settings: Settings) -> Self | None:
        """Return the exposition of a spool's observer; None if it is not one for Prometheus."""
        found = unguarded(observer)
        return cls(found, settings) if isinstance(found, PrometheusObserver) else None

    def add_stats(self, read: Callable[[], Stats]) -> None:
        """Show also what is read, not counted: what the `stats` of a spool tells, asked for at a scrape."""
        self.registry.register(SpoolGauges(read))

    def answer(self, accept: str = "") -> Answer:
        """Return what a scrape gets: the metrics, or a failure. 503: another process had the files for too long."""
        try:
            return Answer(HTTPStatus.OK, *self.render(accept))
        except Exception as error:  # noqa: BLE001 - a scrape needs an answer, whatever it is
            self.tell_once(error)
            is_busy = isinstance(error, TimeoutError)
            status = HTTPStatus.SERVICE_UNAVAILABLE if is_busy else HTTPStatus.INTERNAL_SERVER_ERROR
            return Answer(status, "text/plain", b"the metrics cannot be read; the log says why\n")

    def tell_once(self, error: BaseException) -> None:
        """Log an error; another one of its kind is not logged: there is one with each scrape."""
        if type(error) not in self._told:
            self._told.add(type(error))
            _LOG.error("a scrape of the metrics has failed; more failures of this kind are not logged", exc_info=error)

    def render(self, accept: str = "") -> tuple[str, bytes]:
        """Return content type and text, in a format that the header `Accept` names. It may wait for Redis and files."""
        self._observer.put()
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self.registry)

    def admits(self, authorization: str | None) -> bool:
        """Tell whether the header `Authorization` has the token, if one is needed."""
        return has_token(authorization, self.token)


def has_token(authorization: str | None, token: SecretStr | None) -> bool:
    """Tell whether a header `Authorization` has this bearer token; no token needs none."""
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    known = hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
    return scheme.lower() == "bearer" and known
