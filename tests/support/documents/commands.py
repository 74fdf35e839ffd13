"""Whether a command of the documentation can be typed like that: programs, options, targets, extras, variables."""

from __future__ import annotations

import importlib.util
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence

import typer.main
from celery.bin.worker import worker as celery_worker
from flower.options import options as flower_options
from support.documents.blocks import PROJECT
from typer.core import TyperGroup
from typer.exceptions import TyperException

from chunkspool.cli.commands import app as chunkspool_app
from chunkspool.settings import GROUP_OF, variable_of

VARIABLES = {variable_of(name) for name in GROUP_OF}
OPERATORS = {"|", "&", "&&", ">", "2>"}
EVERYDAY = {"install", ".", "cd", "cp", "curl", "docker", "gunicorn", "openssl", "sed"}
"""Programs whose arguments are not ours to check."""


def check(command: str) -> None:
    """Raise `ValueError` if a shell, or the program that is called, would reject the command."""
    for words in split(command):
        name, *arguments = take_variables(words)
        check_program(name, arguments)


def split(command: str) -> Iterator[list[str]]:
    """Yield the words of each call of a program in a line of shell."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    words: list[str] = []
    for word in lexer:
        if word not in OPERATORS:
            words.append(word)
        elif words:
            yield words
            words = []
    if words:
        yield words


def take_variables(words: Sequence[str]) -> list[str]:
    """Return the words behind assignments. Raises for a variable of ours that does not exist."""
    rest = list(words)
    while rest and (found := re.match(r"([A-Z_]+)=", rest[0])):
        check_variable(found[1])
        del rest[0]
    return rest


def check_variable(name: str) -> None:
    """Raise if it looks like a setting and is none."""
    if name.startswith("CHUNKSPOOL_") and name not in VARIABLES:
        raise ValueError(f"there is no setting {name}")


def check_program(name: str, arguments: list[str]) -> None:
    """Raise if the program does not exist, or would reject its arguments."""
    if name in EVERYDAY:
        return
    if name not in PROGRAMS:
        raise ValueError(f"{name}: what is that?")
    PROGRAMS[name](arguments)


def check_chunkspool(arguments: list[str]) -> None:
    """Parse them as the command line does, and run nothing."""
    command = typer.main.get_command(chunkspool_app)
    while isinstance(command, TyperGroup):
        name, *arguments = arguments
        if name not in command.commands:
            raise ValueError(f"there is no chunkspool {name}")
        command = command.commands[name]
    try:
        command.make_context(command.name, arguments)
    except TyperException as error:
        raise ValueError(f"chunkspool: {error}") from error


def check_make(arguments: list[str]) -> None:
    """Raise for a target that the Makefile does not have."""
    targets = set(re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(), re.MULTILINE))
    for target in (one for one in arguments if "=" not in one):
        if target not in targets:
            raise ValueError(f"there is no make {target}")


def check_pip(arguments: list[str]) -> None:
    """Raise for an extra that pyproject.toml does not have."""
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for named in re.findall(r"(?:chunkspool|\.)\[([^]]+)\]", " ".join(arguments)):
        for extra in named.split(","):
            if extra not in extras:
                raise ValueError(f"there is no extra {extra}")


def check_celery(arguments: list[str]) -> None:
    """Raise for an option that a worker or Flower does not have."""
    if "flower" in arguments:
        known = {f"--{name.replace('_', '-')}" for name in flower_options} | {"-A", "--app"}
    elif "worker" in arguments:
        known = {option for one in celery_worker.params for option in one.opts} | {"-A", "--app"}
    else:
        raise ValueError("only workers and Flower are started here")
    for option in (one.partition("=")[0] for one in arguments if one.startswith("-")):
        if option not in known:
            raise ValueError(f"celery has no {option}")


def check_python(arguments: list[str]) -> None:
    """Raise for a module that does not exist."""
    if arguments[0] == "-m" and importlib.util.find_spec(arguments[1]) is None:
        raise ValueError(f"there is no module {arguments[1]}")


def check_uvicorn(arguments: list[str]) -> None:
    """Raise for an example that does not exist; `app` is the reader's own."""
    module, _, name = arguments[0].partition(":")
    path = PROJECT / f"{module.replace('.', '/')}.py"
    if module != "app" and f"{name} = " not in path.read_text():
        raise ValueError(f"there is no {arguments[0]}")


def check_export(arguments: list[str]) -> None:
    """Raise for a variable of ours that does not exist."""
    for one in arguments:
        check_variable(one.partition("=")[0])


def check_django_admin(arguments: list[str]) -> None:
    """Raise for a command that Django does not have."""
    from django.core.management import get_commands  # noqa: PLC0415 - it is slow, and needed here only

    if arguments[0] not in get_commands():
        raise ValueError(f"there is no django-admin {arguments[0]}")


PROGRAMS: dict[str, Callable[[list[str]], None]] = {
    "celery": check_celery,
    "chunkspool": check_chunkspool,
    "django-admin": check_django_admin,
    "export": check_export,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "uvicorn": check_uvicorn,
}
