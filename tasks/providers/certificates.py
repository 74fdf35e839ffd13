"""Tells from an error that the server could not prove who it is."""

from __future__ import annotations

import ssl

from chunkspool.errors import ProviderError
from chunkspool.tasks.providers.failures import Code, failure

CERTIFICATE_FAULTS = ("self-signed certificate", "expired", "mismatch", "unable to get local issuer certificate")
"""OpenSSL's words for them. The rest of its message is left out: it may have the server's address."""
_DEEPEST = 16
"""How far to look for the cause of an error: LiteLLM, its SDK and two HTTP clients each wrap it once."""


def untrusted_failure(error: BaseException) -> ProviderError | None:
    """Return the failure with what is wrong with the server's certificate, None if nothing is.

    The class of the cause decides, not the words of the errors around it: those may quote what a server has answered.
    """
    current: BaseException | None = error
    for _ in range(_DEEPEST):
        if current is None:
            break
        if isinstance(current, ssl.SSLCertVerificationError):
            words = str(current).lower()
            found = next((fault for fault in CERTIFICATE_FAULTS if fault in words), "")
            return failure(Code.PROVIDER_UNTRUSTED, f"its certificate is not trusted{found and ': '}{found}")
        if isinstance(current, BaseExceptionGroup):
            current = current.exceptions[0]
        else:
            current = current.__cause__ or current.__context__
    return None
