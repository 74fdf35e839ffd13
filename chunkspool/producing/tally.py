"""Counts what a producer has said, for whoever tells how far an answer is. Nothing of it is text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

TOKEN_CHARACTERS: Final = 4
"""Characters of a token, about: some models send several tokens in a chunk."""


@dataclass(slots=True)
class Tally:
    """Written by the producer's thread, read by any other."""

    chunks: int = 0
    """Pieces of text and thinking."""
    characters: int = 0
    output_tokens: int | None = None
    """What the model itself has counted; None until it says so, which most do at the end."""

    def add(self, text: str) -> None:
        """Count a piece."""
        self.chunks += 1
        self.characters += len(text)

    @property
    def tokens(self) -> int:
        """The tokens said so far: the model's own count, else an estimate, because most models send one in a chunk."""
        if self.output_tokens is not None:
            return self.output_tokens
        return max(self.chunks, self.characters // TOKEN_CHARACTERS)
