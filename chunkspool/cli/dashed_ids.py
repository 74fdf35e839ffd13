"""Takes an id that begins with a dash for the argument that it is, as nanoid makes such ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from typer.core import TyperCommand


class DashedIds(TyperCommand):
    """A command whose arguments may begin with one dash: `chunkspool tail -V1StGXR8_Z5jdHi6B`.

    Two dashes still are an option, known or mistyped; an id that begins with two goes after `--`.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command's part of the command line."""
        takes_value = {
            name: not getattr(parameter, "is_flag", False)
            for parameter in self.get_params(ctx)
            for name in parameter.opts
            if name.startswith("-")
        }
        return super().parse_args(ctx, options_first(args, takes_value))


def options_first(args: Iterable[str], takes_value: Mapping[str, bool]) -> list[str]:
    """Return `args` with the options first, then `--` and what is none, so that no argument is taken for an option.

    `takes_value` has the names of the options, and whether a value comes after each.
    """
    options, arguments = list[str](), list[str]()
    rest = iter(args)
    for word in rest:
        if word == "--":
            arguments += rest
        elif word in takes_value:
            options.append(word)
            if takes_value[word]:
                options += islice(rest, 1)
        elif word.startswith("--"):
            options.append(word)  # --name=value, or a mistake that is to be reported as one
        else:
            arguments.append(word)
    return [*options, "--", *arguments]
