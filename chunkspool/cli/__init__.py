"""The entry point of the command line `chunkspool`: it runs the commands, or says which extra is missing."""

from __future__ import annotations

import sys

_NEEDED = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command line that the process was started with; end the process with its exit code."""
    try:
        # Imported here: the wheel installs the script without its extra, too, and then it must explain itself.
        from chunkspool.cli.commands import app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write("chunkspool's command line needs its extra: pip install 'chunkspool[cli]'\n")
        sys.exit(2)
    app(prog_name="chunkspool")
