"""The commands of the command line, one function each. What needs a further extra imports it inside its function."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, NoReturn

import typer
from pydantic import TypeAdapter

from chunkspool.cli.exit_codes import ExitCode, code_of_error
from chunkspool.cli.follow import Follower
from chunkspool.cli.follow import ask as ask_and_follow
from chunkspool.cli.formatting import plain, status_lines
from chunkspool.cli.screen import JsonLines, Readable
from chunkspool.cli.terminal import OutputClosed, answer_to, cancelled_by_ctrl_c, complain, discard_output, put
from chunkspool.errors import ChunkspoolError, InvalidCursor, InvalidInput, SettingsError
from chunkspool.results import ChatStatus
from chunkspool.settings import Settings
from chunkspool.spool import AsyncSpool
from chunkspool.states import OnActive

HELP = """Ask, follow, stop and erase the chats that live in CHUNKSPOOL_REDIS_URL.

Answers go to standard output, everything else to standard error. Every CHUNKSPOOL_… setting holds here too."""

app = typer.Typer(
    help=HELP,
    epilog="Exit codes:\n\n" + "\n\n".join(f"{code:3d}  {code.meaning}" for code in ExitCode),
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_STATUS = TypeAdapter(ChatStatus)

Chat = Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help="The chat's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]


@app.command()
def ask(
    chat: Chat,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to ask; - reads it from standard input.")],
    *,
    model: Annotated[str | None, typer.Option(help="The model, by the name that the provider knows.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Passed on to the provider; the value is JSON, else a text."),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="The same id again asks nothing anew: it shows the same generation.")
    ] = None,
    on_active: Annotated[OnActive, typer.Option(help="What to do while another generation is active.")] = "reject",
    as_json: Json = False,
) -> None:
    """Hand a prompt to a worker and show the answer. Ctrl-C asks whether to stop it."""

    async def work(spool: AsyncSpool) -> ExitCode:
        request = {
            "prompt": _prompt(prompt),
            "model": model,
            "params": _params(param or ()),
            "request_id": request_id,
            "on_active": on_active,
        }
        return await ask_and_follow(spool, chat, request, JsonLines() if as_json else Readable())

    _run(work)


@app.command()
def tail(
    chat: Chat,
    *,
    after: Annotated[str, typer.Option(metavar="N", help="The seq of the last event you have.")] = "0",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until nothing is active in the chat.")] = False,
    forever: Annotated[bool, typer.Option("--forever", help="Follow, and never end by itself.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is in a chat, from its first event or from a cursor."""

    async def work(spool: AsyncSpool) -> ExitCode:
        follower = Follower(spool, chat, JsonLines() if as_json else Readable(), _cursor(after))
        if follow or forever:
            return await follower.follow("forever" if forever else "idle")
        return await follower.show_kept()

    _run(work)


@app.command()
def stop(
    chat: Chat,
    generation: Annotated[str | None, typer.Argument(metavar="[GENERATION]", help="Else all that are active.")] = None,
    *,
    reason: Annotated[str | None, typer.Option(help="Why; every reader is told.")] = None,
) -> None:
    """Stop a generation, or all that are active in the chat; once more is no error."""

    async def work(spool: AsyncSpool) -> ExitCode:
        stops = await spool.stop(chat, generation, reason=reason)
        for one in stops:
            _say(f"{one.generation_id}  {one.outcome}")
        if not stops:
            complain(f"nothing is active in chat {chat}")
        return ExitCode.DONE

    _run(work)


@app.command()
def status(chat: Chat, *, as_json: Json = False) -> None:
    """Show how a chat and its generations stand."""

    async def work(spool: AsyncSpool) -> ExitCode:
        found = await spool.status(chat)
        if as_json:
            put(_STATUS.dump_json(found, by_alias=True) + b"\n")
        else:
            _say(*status_lines(found))
        return ExitCode.DONE

    _run(work)


@app.command()
def erase(
    chat: Chat, *, yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; there is no way back.")] = False
) -> None:
    """Remove a chat for good; a generation that is active in it is stopped."""

    async def work(spool: AsyncSpool) -> ExitCode:
        found = await spool.status(chat)
        if not (yes or _agreed(f"Erase chat {chat} up to seq {found.last}, {len(found.active)} active? [y/N] ")):
            complain("nothing was erased")
            return ExitCode.DONE
        await spool.erase(chat)
        complain(f"chat {chat} was erased")
        return ExitCode.DONE

    _run(work)


@app.command()
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    open_access: Annotated[bool, typer.Option("--open", help="Let everybody read, ask, stop and erase.")] = False,
) -> None:
    """Run the web routes and the chat page. It needs the extra "web", and a token secret unless --open is given."""

    def work() -> ExitCode:
        from chunkspool.web.serve import serve as run  # noqa: PLC0415 - only here is the extra needed

        run(Settings.from_env(), host, port, open_access=open_access)
        return ExitCode.DONE

    _end(_with_web(work))


@app.command()
def token(
    chat: Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help='The chat\'s id, or "*" for any.')],
    *,
    action: Annotated[list[str] | None, typer.Option(help="ask, read, stop or erase; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="How long the token is good for.")] = 3600.0,
) -> None:
    """Print a token for the web routes, signed with the token secret."""

    def work() -> ExitCode:
        from chunkspool.web.tokens import SignedTokens  # noqa: PLC0415 - as above

        settings = Settings.from_env()
        actions: Any = action or ("ask", "read", "stop")  # checked by what issues it
        _say(SignedTokens.from_settings(settings).issue(chat, actions, seconds=seconds, tenant=settings.log.tenant))
        return ExitCode.DONE

    _end(_with_web(work))


def _with_web(work: Callable[[], ExitCode]) -> Callable[[], ExitCode]:
    def checked() -> ExitCode:
        try:
            return work()
        except ModuleNotFoundError as missing:
            raise SettingsError(f"this needs {missing.name}: pip install 'chunkspool[cli,web]'") from missing

    return checked


def _run(work: Callable[[AsyncSpool], Awaitable[ExitCode]]) -> NoReturn:
    """Do `work` with the environment's spool, and end the command."""

    async def connected() -> ExitCode:
        with cancelled_by_ctrl_c():
            async with AsyncSpool.from_env() as spool:
                return await work(spool)

    _end(lambda: asyncio.run(connected()))


def _end(work: Callable[[], ExitCode]) -> NoReturn:
    """Do `work`; end the command with its code, and with one line if it went wrong."""
    try:
        code = work()
    except ChunkspoolError as error:
        complain(str(error))
        code = code_of_error(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        discard_output()
        code = ExitCode.INTERRUPTED
    except OutputClosed:
        discard_output()
        code = ExitCode.OUTPUT_CLOSED
    except OSError as error:
        discard_output()
        complain(f"the output cannot be written: {error.strerror or error}")
        code = ExitCode.UNAVAILABLE
    raise typer.Exit(code)


def _say(*lines: str) -> None:
    put("".join(f"{plain(line)}\n" for line in lines).encode(sys.stdout.encoding, "replace"))


def _agreed(question: str) -> bool:
    answer = answer_to(question)
    if answer is None:
        raise InvalidInput("nothing was erased, for nobody answered: pass --yes where nobody can")
    return answer.lower() in {"y", "yes"}


def _prompt(given: str) -> str:
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the prompt on standard input is not UTF-8: {error}") from None


def _cursor(given: str) -> int:
    try:
        return int(given)
    except ValueError:
        raise InvalidCursor(given) from None


def _params(given: list[str] | tuple[()]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not (name and equals):
            raise InvalidInput(f"--param {one!r}: write NAME=VALUE")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params
