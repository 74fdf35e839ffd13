"""The web app under uvicorn with the HTTP parser of one's choice: `python -m bench.processes.web_app PORT PARSER`."""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from chunkspool import AsyncSpool, Settings
from chunkspool.web.access import allow_all
from chunkspool.web.app import create_app

if __name__ == "__main__":
    parser: Any = sys.argv[2]
    app = create_app(AsyncSpool.from_settings(Settings.from_env()), allow_all, closes_spool=True)
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), http=parser, ws="none", access_log=False)
