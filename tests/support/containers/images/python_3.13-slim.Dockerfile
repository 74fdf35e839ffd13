# What the tests need of python:3.13-slim, made of Debian's Python 3.13 where no registry can be reached. As in the
# original, Python and pip are in /usr/local. pip finds its packages where the machine that builds this finds them.
FROM debian:trixie-slim
RUN apt-get update -q \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends ca-certificates python3-venv \
 && apt-get clean && rm -rf /var/lib/apt/lists/* \
 && python3.13 -m venv /usr/local
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY pip.conf /etc/pip.conf
CMD ["python3"]
