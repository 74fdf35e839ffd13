"""How a process runs jobs: the Celery app and what it needs of its own."""
