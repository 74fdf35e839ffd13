"""Durable, resumable LLM streams for Celery: a per-chat log in Redis that any reader replays and follows."""

from chunkspool.conversation import Turn, conversation
from chunkspool.errors import ChunkspoolError
from chunkspool.events import Entry, Event
from chunkspool.fold import Answer, fold
from chunkspool.producing.producer import Producer
from chunkspool.results import Generation
from chunkspool.settings import Settings
from chunkspool.spool import AsyncSpool, Spool

__all__ = [
    "Answer",
    "AsyncSpool",
    "ChunkspoolError",
    "Entry",
    "Event",
    "Generation",
    "Producer",
    "Settings",
    "Spool",
    "Turn",
    "conversation",
    "fold",
]
