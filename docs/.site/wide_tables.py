"""Gives room to tables: pages without headings need no contents beside them, and long paths of tests may break."""

from __future__ import annotations

import re

from mkdocs.structure.pages import Page

CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Hide the contents of a page without headings: they would be empty."""
    if not page.is_homepage and not re.search(r"^(##|:::)", markdown, re.MULTILINE):
        page.meta["hide"] = ["toc"]
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Let code in tables break where a reader would break it."""

    def allow_breaks(cell: re.Match[str]) -> str:
        return CODE.sub(lambda code: re.sub(r"(::|[/_.])(?=\w)", r"\1<wbr>", code[0]), cell[0])

    return CELL.sub(allow_breaks, html)
