"""Puts the drawings into their pages, so that their colours follow the reader's choice of light or dark."""

from __future__ import annotations

import re
from pathlib import Path

IMAGE = re.compile(r'<img alt="([^"]*)" src="[^"]*?([\w-]+\.svg)"\s*/?>')
DRAWINGS = Path(__file__).parents[1] / "assets"


def on_page_content(html: str, **_: object) -> str:
    """Replace each image of a drawing by the drawing itself, which keeps its text for those who cannot see it."""

    def draw(match: re.Match[str]) -> str:
        svg = (DRAWINGS / match[2]).read_text()
        return svg.replace("<svg ", f'<svg role="img" aria-label="{match[1]}" ', 1)

    return IMAGE.sub(draw, html)
