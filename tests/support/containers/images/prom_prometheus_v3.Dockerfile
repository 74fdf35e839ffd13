# What the tests need of prom/prometheus:v3, made of Debian's Prometheus where no registry can be reached.
FROM debian:trixie-slim
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends prometheus \
 && apt-get clean && rm -rf /var/lib/apt/lists/* \
 && rm -rf /etc/prometheus/* && install -d -o nobody -g nogroup /prometheus
VOLUME /prometheus
WORKDIR /prometheus
EXPOSE 9090
USER nobody
ENTRYPOINT ["/bin/prometheus"]
