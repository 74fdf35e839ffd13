"""The door of the command line `chunkspool`: it says what is missing without the extra, else runs the commands."""

from __future__ import annotations

import sys

_NEEDED = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command line that the process was started with; end the process with its exit code."""
    try:
        from chunkspool.cli.commands import app  # noqa: PLC0415 - here, so that the message below can be given
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write("chunkspool's command line needs its extra: pip install 'chunkspool[cli]'\n")
        sys.exit(2)
    app(prog_name="chunkspool")
