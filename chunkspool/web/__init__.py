"""The web app: an ASGI app with JSON routes, event streams and their dialects. It needs the extra `web`."""

from chunkspool.web.access import AccessDenied, Action, Authorize, GrantedUntil, Verdict, allow_all
from chunkspool.web.app import create_app
from chunkspool.web.tokens import SignedTokens

__all__ = ["AccessDenied", "Action", "Authorize", "GrantedUntil", "SignedTokens", "Verdict", "allow_all", "create_app"]
