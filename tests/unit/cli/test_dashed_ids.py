"""An argument may begin with a dash: nanoid makes such ids, and a prompt may be a list."""

from __future__ import annotations

import pytest

from chunkspool.cli.dashed_ids import options_first

TAIL = {"--after": True, "--follow": False, "-f": False, "--help": False, "-h": False}


@pytest.mark.parametrize(
    ("given", "options", "arguments"),
    [
        (["-V1h_f"], [], ["-V1h_f"]),
        (["-V1h_f", "-f"], ["-f"], ["-V1h_f"]),
        (["-f", "-V1h_f", "--after", "-1"], ["-f", "--after", "-1"], ["-V1h_f"]),
        (["--after=3", "-", "- a list"], ["--after=3"], ["-", "- a list"]),
        (["--after", "--", "c"], ["--after", "--"], ["c"]),
        (["-f", "--", "--x", "-f"], ["-f"], ["--x", "-f"]),
        (["c", "--flolow"], ["--flolow"], ["c"]),
        (["c", "--after"], ["--after"], ["c"]),
        (["-h"], ["-h"], []),
        ([], [], []),
    ],
)
def test_only_options_are_options(given: list[str], options: list[str], arguments: list[str]) -> None:
    """One dash begins an argument unless it is an option's name; what begins with two is an option, or a mistake."""
    assert options_first(given, TAIL) == [*options, "--", *arguments]
