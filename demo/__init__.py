"""`make demo`: the processes that it needs besides the library, and how they are put together."""
