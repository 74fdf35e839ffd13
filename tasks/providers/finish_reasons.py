"""The words with which servers end an answer: which of them mean that it is complete."""

from __future__ import annotations

from chunkspool.provider import Finish
from chunkspool.tasks.providers.failures import Code, failure, safe_names

_SAME = {
    "stop": ("stop", "end_turn", "stop_sequence", "eos", "eos_token", "complete", "completed", "end", "done"),
    "length": ("length", "max_tokens", "max_output_tokens", "model_length", "model_context_window_exceeded"),
    "tool_calls": ("tool_calls", "tool_call", "tool_use", "function_call"),
    "content_filter": ("content_filter", "content_filtered", "safety", "sensitive", "recitation", "blocklist"),
    "refusal": ("refusal",),
    # The server wants to be asked again, to go on with a long turn of its own tools.
    "pause_turn": ("pause_turn",),
}
_WORDS = {word: finish for finish, words in _SAME.items() for word in words}


def finish_of(reason: str) -> Finish:
    """Return the finish that a server's word means. Raises `ProviderError` for a failure and for an unknown word.

    An answer is complete only if the server says so in a way that is known: servers also end by "error", "abort" or
    "insufficient_system_resource", and the next one will have a word of its own.
    """
    finish = _WORDS.get(reason.lower().replace("-", "_"))
    if finish is None:
        raise failure(Code.PROVIDER_ERROR, *safe_names(reason))
    return Finish(finish)
