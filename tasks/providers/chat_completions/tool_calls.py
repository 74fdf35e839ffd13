"""Assembles tool calls from their pieces, whichever of index, id and name the server sends with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from chunkspool.provider import ToolCall
from chunkspool.tasks.providers.failures import Code, failure
from chunkspool.tasks.providers.json_values import json_of, object_in, text_in

MAX_CHARACTERS = 8 * 1024 * 1024
"""What all open calls together may hold. A server that never ends them must not fill the worker's memory."""
MAX_CALLS = 256
_MARK = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


@dataclass(slots=True)
class _Arguments:
    """The arguments of a call as far as they have arrived."""

    # Joined at the end: adding to a text copies all of it for each piece.
    pieces: list[str] = field(default_factory=list)
    scanned: int = 0
    depth: int = 0
    in_string: bool = False
    escapes: bool = False

    def is_whole(self) -> bool:
        """Tell whether they are a whole JSON object, which nothing can follow. Each piece is scanned once."""
        for piece in self.pieces[self.scanned :]:
            self._scan(piece[1:] if self.escapes else piece)
        self.scanned = len(self.pieces)
        return bool(self.pieces) and self.depth == 0 and not self.in_string

    def _scan(self, piece: str) -> None:
        self.escapes = False
        for found in _MARK.finditer(piece):
            mark = found[0]
            if mark.startswith("\\"):
                self.escapes = len(mark) == 1  # what it escapes begins the next piece
            elif mark == '"':
                self.in_string = not self.in_string
            elif not self.in_string:
                self.depth += 1 if mark in "{[" else -1


@dataclass(slots=True, eq=False)
class _OpenCall:
    """A tool call that is still arriving."""

    index: str
    id: str
    name: str
    arguments: _Arguments = field(default_factory=_Arguments)

    def takes(self, piece: _Piece) -> bool:
        """Tell whether a named piece that bears this call's id or index, or neither, can be part of it."""
        if piece.name != self.name and (self.arguments.pieces or piece.index != self.index):
            return False
        # Some servers repeat the name in every piece, others send it in two.
        return not (piece.arguments and self.arguments.is_whole())

    def add(self, piece: _Piece) -> None:
        """Add a piece."""
        # A name that begins with what is known is the name so far, not one more part of it.
        self.name = piece.name if piece.name.startswith(self.name) else self.name + piece.name
        self.id = self.id or piece.id
        if piece.arguments:
            self.arguments.pieces.append(piece.arguments)

    def read(self) -> ToolCall:
        """Return the whole call. Raises `ProviderError` if it names no tool."""
        if not self.name:
            raise failure(Code.MALFORMED_RESPONSE, "a tool call without a name")
        return ToolCall(self.id, self.name, "".join(self.arguments.pieces))


@dataclass(frozen=True, slots=True)
class _Piece:
    """Part of a tool call, as it arrived."""

    index: str
    id: str
    name: str
    arguments: str

    @classmethod
    def from_json(cls, piece: Mapping[str, Any]) -> _Piece:
        """Read a piece. Some servers send the arguments as JSON values, not as their text, or leave out `function`."""
        function = object_in(piece.get("function")) or piece
        arguments = function.get("arguments")
        text = arguments if isinstance(arguments, str) else json_of(arguments)
        index = piece.get("index")
        return cls("" if index is None else str(index), text_in(piece.get("id")), text_in(function.get("name")), text)


class ToolCallAssembler:
    """Assembles the calls of one answer. Pieces of several calls may alternate, so none is complete until all are."""

    def __init__(self) -> None:
        """No piece has arrived yet."""
        self._open: list[_OpenCall] = []
        self._size = 0
        self._ids: set[str] = set()

    def add(self, pieces: Iterable[Mapping[str, Any]]) -> bool:
        """Add the pieces of one delta; return whether they held anything. Raises `ProviderError` for endless calls."""
        extended: list[_OpenCall] = []
        for piece in map(_Piece.from_json, pieces):
            if not (piece.id or piece.name or piece.arguments):
                continue
            call = self._find(piece)
            # One delta does not send a name in two pieces: it makes two calls.
            if call is None or (piece.name and call in extended):
                call = _OpenCall(piece.index, piece.id, "")
                self._open.append(call)
            call.add(piece)
            extended.append(call)
            self._size += len(piece.name) + len(piece.arguments)
            if self._size > MAX_CHARACTERS or len(self._open) > MAX_CALLS:
                raise failure(Code.MALFORMED_RESPONSE, "endless tool calls")
        return bool(extended)

    def close(self) -> list[ToolCall]:
        """Return the calls, whose pieces have all arrived. Raises `ProviderError` for a call that names no tool."""
        calls, self._open, self._size = self._open, [], 0
        # Some servers repeat whole calls at the end. Two calls that differ in nothing, not even in the id, are one.
        said = [call for call in calls if call.name or call.arguments.pieces]
        read = dict.fromkeys((call.id or number, call.read()) for number, call in enumerate(said))
        return [replace(call, id=self._make_unique(call.id)) for _, call in read]

    def _make_unique(self, given: str) -> str:
        # A result finds its call by the id, so two calls of an answer must not share one.
        number = len(self._ids)
        unique = given or f"call_{number}"
        while unique in self._ids:
            unique, number = f"{given or 'call'}_{number}", number + 1
        self._ids.add(unique)
        return unique

    def _find(self, piece: _Piece) -> _OpenCall | None:
        """Return the call that a piece belongs to, or None if it begins one."""
        # The index first: it tells apart two calls with one id. The id alone finds a call that goes on under another.
        same_id = [call for call in self._open if piece.id and call.id == piece.id]
        same_index = [call for call in self._open if call.index == piece.index]
        both = [call for call in same_id if call in same_index]
        found = both or same_id
        if not found and (piece.arguments and not piece.name):
            # It can begin no call, so it is the rest of one, even if its id is new: some servers make one up per piece.
            found = same_index or self._open
        elif not found:
            found = [call for call in same_index if not (piece.id and call.id)]
        call = next(reversed(found), None)
        return call if call is None or not piece.name or call.takes(piece) else None
