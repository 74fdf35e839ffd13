"""chunkspool: durable, resumable LLM streams for Celery."""
