"""`Spool` and `AsyncSpool`: all that a web app does with its chats. Two drivers of the same operations."""

from chunkspool.spool.aio import AsyncSpool
from chunkspool.spool.sync import Spool

__all__ = ["AsyncSpool", "Spool"]
