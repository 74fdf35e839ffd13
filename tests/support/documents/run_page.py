"""Runs a page's Python in a process of its own: its blocks in order, in one namespace; a block may await."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from types import CodeType
from typing import Any

from support.documents.blocks import PROJECT, Block, find_blocks, is_example


def blocks_to_run(page: Path) -> list[Block]:
    """Return the blocks that no other test runs: an example is tested as such, and so is a file of a quickstart."""
    python = (block for block in find_blocks(page) if block.language == "python" and block.title is None)
    return [block for block in python if not is_example(block.text)]


def compile_block(block: Block) -> CodeType:
    """Compile a block so that it may await, and so that errors name its page and line."""
    tree = ast.increment_lineno(ast.parse(block.text), block.line - 1)
    return compile(tree, block.page, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def run(page: Path) -> None:
    """Run the page. Raises what its blocks raise."""
    namespace: dict[str, Any] = {"__name__": "page"}
    with asyncio.Runner() as runner:
        for block in blocks_to_run(page):
            result = eval(compile_block(block), namespace)  # noqa: S307 - our own documentation
            if inspect.iscoroutine(result):
                runner.run(result)


if __name__ == "__main__":
    run(PROJECT / sys.argv[1])
