// A reverse proxy of npm's: http-proxy alone, or behind the compression that most Express apps use.

import http from "node:http";
import compression from "compression";
import httpProxy from "http-proxy";

const [kind, target, port] = process.argv.slice(2);
const proxy = httpProxy.createProxyServer({ target });
// A client that hangs up in the middle of a stream is no fault of the proxy.
proxy.on("error", (_error, _request, reply) => reply.destroy());
const compress = compression();
http
  .createServer((request, reply) => {
    if (kind === "compression") compress(request, reply, () => proxy.web(request, reply));
    else proxy.web(request, reply);
  })
  .listen(Number(port), "127.0.0.1");
