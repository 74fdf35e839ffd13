"""A web app of somebody's own that counts: run by `uvicorn --workers 2`, it is in two processes."""

from __future__ import annotations

from chunkspool import AsyncSpool
from chunkspool.metrics.instruments import PrometheusObserver
from chunkspool.web import allow_all, create_app

spool = AsyncSpool.from_env(observer=PrometheusObserver())
app = create_app(spool, allow_all, closes_spool=True)
