"""What a job does: claim, pump the model into the log, finish. Survives swapping Celery for a loop."""
