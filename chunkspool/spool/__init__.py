"""`Spool` and `AsyncSpool`: all that a web app does with its chats."""

from chunkspool.spool.sync import AsyncSpool, Spool

__all__ = ["AsyncSpool", "Spool"]
