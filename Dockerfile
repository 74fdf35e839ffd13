# The image of the worker. Flower runs from it, too, with another command: see docker-compose.yml.
FROM python:3.13-slim
WORKDIR /app
# The command `celery` adds the working directory to sys.path only while it imports the app. The task modules import
# later, so they need it for good.
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY chunkspool chunkspool
RUN pip install --no-cache-dir -c constraints.txt '.[worker]' 'flower>=2.2,<3'
COPY celeryconfig.py ./
COPY tasks tasks
COPY worker worker
USER nobody
CMD ["celery", "-A", "worker.app", "worker", "-P", "threads", "-c", "100", "--loglevel", "INFO"]
