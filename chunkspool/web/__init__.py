"""The web app: an ASGI app with JSON routes, event streams and their dialects. It needs the extra `web`."""

from chunkspool.web.access import AccessDenied, Action, Authorize, allow_all
from chunkspool.web.app import create_app
from chunkspool.web.tokens import SignedTokens

__all__ = ["AccessDenied", "Action", "Authorize", "SignedTokens", "allow_all", "create_app"]
