# The worker, and Flower by another command: see docker-compose.yml.
FROM python:3.13-slim
WORKDIR /app
# Console scripts have the working directory on the path only while they import; `-A worker.app` needs it for good.
ENV PYTHONPATH=/app PYTHONUNBUFFERED=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY chunkspool chunkspool
RUN pip install --no-cache-dir -c constraints.txt '.[worker]' 'flower>=2.2,<3'
COPY celeryconfig.py ./
COPY tasks tasks
COPY worker worker
USER nobody
CMD ["celery", "-A", "worker.app", "worker", "-P", "threads", "-c", "100", "--loglevel", "INFO"]
