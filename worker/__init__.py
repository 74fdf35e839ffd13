"""How a process runs generations: `equip` adds that to a Celery app, `generation_task` makes tasks of your functions.

`celery -A chunkspool.worker worker` starts a worker that needs no app of your own.
"""

from chunkspool.tasks.generation_task import generation_task
from chunkspool.worker.equip import equip

__all__ = ["equip", "generation_task"]
