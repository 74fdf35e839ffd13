"""What a browser may add to an answer that the log has: what became of the answer's tool calls, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from chunkspool.dialects.usechat_messages import UiMessage, UiPart, is_tool, tool_name_of

_OPEN: Final = frozenset({"input-streaming", "input-available", "approval-requested", "approval-responded"})
"""States of a call that has no outcome yet."""


def with_additions(logged: UiMessage, sent: UiMessage) -> UiMessage:
    """Return the message as the log has it, with the outcomes and approvals of its open calls that a browser has sent.

    Calls of one id are told apart from the last one on: a browser may still have some in front that are void.
    """
    given: dict[str, list[UiPart]] = {}
    for part in sent.parts:
        if is_tool(part):
            given.setdefault(str(part["toolCallId"]), []).append(part)
    parts = [_with_addition(part, given) if is_tool(part) else part for part in reversed(logged.parts)]
    return logged.model_copy(update={"parts": parts[::-1]})


def _with_addition(logged: UiPart, given: Mapping[str, list[UiPart]]) -> UiPart:
    candidates = given.get(str(logged["toolCallId"]))
    sent = candidates.pop() if candidates else None
    if sent is None or logged.get("state") not in _OPEN or tool_name_of(sent) != tool_name_of(logged):
        return logged
    approval, is_decided = _approval_of(logged), _is_approved(logged) is not None
    if not is_decided:
        approval = _approval_of(sent) or approval
    state = sent.get("state")
    added = _ADDED[state](sent) if isinstance(state, str) and state in _ADDED else {}
    if not added or (_is_approved(logged) is False and added["state"] != "output-denied"):
        return logged
    return {**logged, **approval, **added}


def _is_approved(part: UiPart) -> bool | None:
    """Return what was decided on the call; None if nothing was."""
    approval = part.get("approval")
    decided = approval.get("approved") if isinstance(approval, dict) else None
    return decided if isinstance(decided, bool) else None


def _output_of(sent: UiPart) -> UiPart:
    is_whole = "output" in sent and sent.get("preliminary") is not True
    return {"state": "output-available", "output": sent["output"]} if is_whole else {}


def _error_of(sent: UiPart) -> UiPart:
    text = sent.get("errorText")
    return {"state": "output-error", "errorText": text if isinstance(text, str) else ""}


def _response_of(sent: UiPart) -> UiPart:
    return {} if _is_approved(sent) is None else {"state": "approval-responded"}


_ADDED: Final[Mapping[str, Callable[[UiPart], UiPart]]] = {
    "output-available": _output_of,
    "output-error": _error_of,
    "approval-responded": _response_of,
    "output-denied": lambda _: {"state": "output-denied"},
}
"""What each state of a call brings with it."""


def _approval_of(sent: UiPart) -> UiPart:
    """Return the approval, with the fields that the SDK knows."""
    match sent.get("approval"):
        case {"id": str(own_id), "approved": bool(approved), **more}:
            reason = more.get("reason")
            told: UiPart = {"reason": reason} if isinstance(reason, str) else {}
            return {"approval": {"id": own_id, "approved": approved, **told}}
        case {"id": str(own_id)}:
            return {"approval": {"id": own_id}}
        case _:
            return {}
