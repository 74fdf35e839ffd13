"""Gives room to tables: pages without headings need no contents beside them, and long paths of tests may break."""

from __future__ import annotations

import re

from mkdocs.structure.pages import Page

CELL = re.compile(r"<td[^>]*>.*?</td>", re.DOTALL)
CODE = re.compile(r"(?<=<code>)[^<]+(?=</code>)")


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Hide what would be empty: the contents of a page without headings, the menu of the first page."""
    hidden = [] if re.search(r"^##", markdown, re.MULTILINE) or ":::" in markdown else ["toc"]
    page.meta.setdefault("hide", [*hidden, *(["navigation"] if page.is_homepage else [])])
    return markdown


def on_page_content(html: str, **_: object) -> str:
    """Let code in tables break where a reader would break it."""

    def allow_breaks(cell: re.Match[str]) -> str:
        return CODE.sub(lambda code: re.sub(r"(::|[/_.])(?=\w)", r"\1<wbr>", code[0]), cell[0])

    return CELL.sub(allow_breaks, html)
