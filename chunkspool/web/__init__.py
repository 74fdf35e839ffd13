"""The web app: an ASGI app with JSON routes, event streams and their dialects. It needs the extra `web`."""

from chunkspool.admission.asked import AskedGeneration
from chunkspool.admission.defaults import SafeAdmission
from chunkspool.errors import Refused
from chunkspool.web.access import AccessDenied, Action, Authorize, GrantedUntil, Verdict, allow_all
from chunkspool.web.admit import Admit, admit_all
from chunkspool.web.app import create_app
from chunkspool.web.tokens import SignedTokens

__all__ = [
    "AccessDenied",
    "Action",
    "Admit",
    "AskedGeneration",
    "Authorize",
    "GrantedUntil",
    "Refused",
    "SafeAdmission",
    "SignedTokens",
    "Verdict",
    "admit_all",
    "allow_all",
    "create_app",
]
