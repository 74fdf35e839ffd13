"""What is said of a limit of the tenant or the owner that was met. Without I/O."""

from __future__ import annotations

import math
from typing import Final

from chunkspool.errors import LimitExceeded
from chunkspool.store.schedule import Reservation

_WHY: Final = {
    "queued": "as many generations of the tenant wait for a worker as may",
    "owner_queued": "as many generations of the owner wait for a worker as may",
    "per_minute": "the tenant has made as many requests in a minute as it may",
    "owner_per_minute": "the owner has made as many requests in a minute as they may",
    "chat_per_minute": "as many requests were made in the chat in a minute as may be",
    "bytes": "the logs of the tenant's chats are as large together as they may be",
    "owner_bytes": "the logs of the owner's chats are as large together as they may be",
    "chat_bytes": "the log has more bytes than a chat's may have",
    "request_bytes": "the request has more bytes than the tenant's may have",
}
_WITHOUT_WAITING: Final = {"request_bytes": "shorten it", "chat_bytes": "fork it at an earlier event"}


def limit_error(reserved: Reservation) -> LimitExceeded:
    """Return the error of a reservation that met a limit."""
    is_of_logs = reserved.limit in {"bytes", "owner_bytes"}
    if reserved.retry_ms is None:
        advice = _WITHOUT_WAITING.get(reserved.limit, "erase some")
        return LimitExceeded(reserved.limit, f"{_WHY[reserved.limit]}: {advice}")
    seconds = reserved.retry_ms / 1000
    when = f"in {math.ceil(seconds)} seconds"
    advice = f"erase some, or wait; the next expires {when}" if is_of_logs else f"try again {when}"
    why = f"{_WHY[reserved.limit]}: {advice}"
    return LimitExceeded(reserved.limit, why, retry_after=seconds)
