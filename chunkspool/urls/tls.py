"""How a TLS connection to Redis is verified: the `ssl_` options of a URL, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_CERT_REQS = {name: name for name in ("required", "optional", "none")}
_CERT_REQS |= {f"cert_{name}": name for name in _CERT_REQS}  # Celery's spelling
_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_FILES = ("ca_certs", "certfile", "keyfile")


@dataclass(frozen=True, slots=True)
class Tls:
    """How the server proves who it is, and how we do. The fields are redis-py's options, without their `ssl_`."""

    cert_reqs: str = "required"
    check_hostname: bool = True
    ca_certs: str | None = None
    ca_path: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def options(self) -> dict[str, str | bool]:
        """Return the options of redis-py's TLS connections. kombu and Flower pass them on to such connections."""
        found = {f"ssl_{one.name}": getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if value is not None}


TLS_OPTIONS = tuple(f"ssl_{one.name}" for one in fields(Tls))


def parse_tls(options: Mapping[str, str]) -> Tls:
    """Read the `ssl_` options of a URL; without any, the server is verified. Raises `ValueError`."""
    given: dict[str, Any] = {name.removeprefix("ssl_"): options[name] for name in TLS_OPTIONS if name in options}
    if "cert_reqs" in given:
        given["cert_reqs"] = _choose(_CERT_REQS, given["cert_reqs"], "ssl_cert_reqs is required, optional or none")
    if "check_hostname" in given:
        given["check_hostname"] = _choose(_BOOLEANS, given["check_hostname"], "ssl_check_hostname is true or false")
    elif given.get("cert_reqs") == "none":
        given["check_hostname"] = False  # it is in the certificate that nobody looks at
    tls = Tls(**given)
    _check(tls)
    return tls


def _check(tls: Tls) -> None:
    if tls.check_hostname and tls.cert_reqs == "none":
        raise ValueError("ssl_check_hostname=true needs ssl_cert_reqs=required: an unverified name proves nothing")
    if tls.keyfile and not tls.certfile:
        raise ValueError("ssl_keyfile needs ssl_certfile, the certificate that belongs to the key")
    # redis-py opens them at every connect, and what is missing then looks like a server that is down.
    for name in _FILES:
        path = getattr(tls, name)
        if path is not None and not Path(path).is_file():
            raise ValueError(f"ssl_{name} is no file that can be read: {path}")
    if tls.ca_path is not None and not Path(tls.ca_path).is_dir():
        raise ValueError(f"ssl_ca_path is no folder that can be read: {tls.ca_path}")


def _choose(values: Mapping[str, T], given: str, sentence: str) -> T:
    try:
        return values[given.lower()]
    except KeyError:
        raise ValueError(sentence) from None
