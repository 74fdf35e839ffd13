"""What a job does: claim a generation, stream the model into its log, end it. It would outlive a swap of Celery."""
