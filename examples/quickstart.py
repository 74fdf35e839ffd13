"""The smallest web app: the ready-made routes and the chat page. Run it with `uvicorn examples.quickstart:app`."""

from chunkspool import AsyncSpool
from chunkspool.web import admit_all, allow_all, create_app

spool = AsyncSpool.from_env()  # nothing connects before the first request
app = create_app(spool, allow_all, admit=admit_all, page=True, closes_spool=True)  # run it, or mount it in yours
