"""The web routes in a Litestar app. Run it with `uvicorn examples.mounted_in_litestar:app`."""

from litestar import Litestar, asgi

from chunkspool import AsyncSpool
from chunkspool.web import SignedTokens, create_app

spool = AsyncSpool.from_env()
tokens = SignedTokens.from_settings(spool.settings)
chat = asgi("/chat", is_mount=True, copy_scope=True)(create_app(spool, tokens, mounted_at="/chat"))
app = Litestar([chat], on_shutdown=[spool.aclose])
