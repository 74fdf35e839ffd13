"""The option of the commands that run on and have a log of their own."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    typer.Option("--loglevel", "-l", case_sensitive=False, help="What the log has, from this level up."),
]
