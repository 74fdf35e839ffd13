# The image of the worker. Flower runs from it, too, with another command: see docker-compose.yml.
# By tag, not by digest: a digest belongs to one build, and nobody can look it up without the registry. To pin it, write
# FROM python:3.13-slim@sha256:… with what `docker buildx imagetools inspect python:3.13-slim` shows: docs/how-to/run/security.md.
FROM python:3.13-slim
WORKDIR /app
# Nothing of the project is installed: it is found here. The command `celery` adds the working directory to sys.path only
# while it imports the app. The task modules import later, so they need it for good.
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements-container.txt ./
# Wheels only, each by its hash: no package can run code of its own here, or be another one than was tested.
RUN pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements-container.txt
COPY celeryconfig.py ./
COPY chunkspool chunkspool
COPY tasks tasks
COPY worker worker
USER nobody
CMD ["celery", "-A", "chunkspool.worker", "worker", "-P", "threads", "-c", "100", "--loglevel", "INFO"]
