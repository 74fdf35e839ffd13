"""URLs of Redis and of the broker: checked once, then said in redis-py's words and in Celery's."""
