"""The demo's web app: the routes and the page, open to everyone who can reach the loopback address."""

from __future__ import annotations

import sys

from chunkspool import Settings
from chunkspool.demo.ports import LOOPBACK
from chunkspool.web.serve import serve

if __name__ == "__main__":
    serve(Settings.from_env(), LOOPBACK, int(sys.argv[1]), open_access=True)
