"""Put stock reverse proxies in front of a server: Debian's nginx, and npm's http-proxy and compression."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.missing import skip_missing
from support.web.npm import NODE, install_packages

from chunkspool.demo.ports import LOOPBACK, free_port, is_taken
from chunkspool.demo.process import Process

FOLDER = Path(__file__).parents[2] / "end_to_end" / "web" / "stock"
KINDS = ("direct", "nginx", "nginx with gzip", "http-proxy", "compression")
# As it comes: nothing about buffering, time-outs or HTTP versions.
NGINX = """
daemon off;
worker_processes 1;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  {gzip}
  server {{
    listen {address}:{port};
    location / {{ proxy_pass {target}; }}
  }}
}}
"""
GZIP = "gzip on; gzip_proxied any; gzip_types application/json text/event-stream;"


@contextmanager
def run_proxy(kind: str, target: str, folder: Path) -> Iterator[str]:
    """Run a proxy of this kind in front of `target` and give its address ("direct": the target's own)."""
    if kind == "direct":
        yield target
        return
    port = free_port()
    command = _nginx(kind, target, port, folder) if kind.startswith("nginx") else _npm(kind, target, port)
    process = Process.start("proxy", command, folder)
    try:
        process.wait_until(lambda: is_taken(port), 30)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        process.terminate()


def _nginx(kind: str, target: str, port: int, folder: Path) -> list[str]:
    path = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if path is None:
        skip_missing("nginx is not on this machine; apt-get install nginx brings it")
    gzip = GZIP if kind.endswith("gzip") else ""
    file = folder / "nginx.conf"
    file.write_text(NGINX.format(folder=folder, gzip=gzip, address=LOOPBACK, port=port, target=target))
    return [path, "-c", str(file), "-p", str(folder), "-e", "stderr"]


def _npm(kind: str, target: str, port: int) -> list[str]:
    install_packages(FOLDER)
    return [str(NODE), str(FOLDER / "proxy.mjs"), kind, target, str(port)]
