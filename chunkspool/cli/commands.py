"""The commands of the command line, one function each. A command that needs a further extra imports it inside."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter

from chunkspool.cli import chats, conversations, doctor, keeping, outcomes, people, programs, stats, tenant
from chunkspool.cli.dashed_ids import DashedIds
from chunkspool.cli.execute import explain_missing, run_and_exit, run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.follow import ChatFollower
from chunkspool.cli.follow import ask as ask_and_follow
from chunkspool.cli.formatting import one_line, status_lines
from chunkspool.cli.loglevel import LogLevel
from chunkspool.cli.screen import JsonScreen, Screen, TextScreen
from chunkspool.cli.terminal import confirm_erase, report, write_output
from chunkspool.errors import InvalidInput
from chunkspool.operations.query import MAX_LIMIT
from chunkspool.results import ChatStatus
from chunkspool.settings import Settings
from chunkspool.spool import AsyncSpool
from chunkspool.states import OnActive

HELP = """Ask, follow, stop and erase chats in the Redis at CHUNKSPOOL_REDIS_URL.

Answers go to standard output, everything else to standard error. All CHUNKSPOOL_… settings apply here, too."""

app = typer.Typer(
    help=HELP,
    epilog="Exit codes:\n\n" + "\n\n".join(f"{code:3d}  {code.meaning}" for code in ExitCode),
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(tenant.app, name="tenant")

_STATUS = TypeAdapter(ChatStatus)

Chat = Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help="The chat's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, one object per line.")]


@app.command(cls=DashedIds)
def ask(
    chat: Chat,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROMPT]", help="The prompt; - reads it from standard input. None with --replaces: the same."
        ),
    ] = None,
    *,
    model: Annotated[str | None, typer.Option(help="The model, by the provider's name for it.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Passed to the provider; the value is JSON, otherwise text."),
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="Asking twice with the same id enqueues once: the same generation is shown.")
    ] = None,
    on_active: Annotated[OnActive, typer.Option(help="What to do while another generation is active.")] = "reject",
    replaces: Annotated[
        str | None, typer.Option(metavar="GENERATION", help="Another version of this one's answer, or of its question.")
    ] = None,
    history: Annotated[
        bool | None,
        typer.Option("--history/--no-history", help="Let the model see the conversation so far.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send a prompt to a worker and show the answer. Ctrl-C asks whether to stop it."""
    if prompt is None and replaces is None:
        raise typer.BadParameter("pass one, or --replaces GENERATION to ask the same again", param_hint="PROMPT")

    async def work(spool: AsyncSpool) -> ExitCode:
        request = {
            "prompt": None if prompt is None else _read_prompt(prompt),
            "model": model,
            "params": _parse_params(param or ()),
            "request_id": request_id,
            "on_active": on_active,
            "replaces": replaces,
            "history": history,
        }
        return await ask_and_follow(spool, chat, request, _screen(as_json=as_json))

    run_with_spool(work)


@app.command(cls=DashedIds)
def tail(
    chat: Chat,
    *,
    after: Annotated[str, typer.Option(metavar="N", help="The seq of the last event you have, or its SSE id.")] = "0",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Follow until nothing is active in the chat.")] = False,
    forever: Annotated[bool, typer.Option("--forever", help="Follow until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show the events of a chat, all of them or those after a cursor."""

    async def work(spool: AsyncSpool) -> ExitCode:
        follower = ChatFollower(spool, chat, _screen(as_json=as_json), after)
        if follow or forever:
            return await follower.follow("forever" if forever else "idle")
        return await follower.show_kept()

    run_with_spool(work)


@app.command(cls=DashedIds)
def stop(
    chat: Chat,
    generation: Annotated[
        str | None, typer.Argument(metavar="[GENERATION]", help="Its id; all active ones unless given.")
    ] = None,
    *,
    reason: Annotated[str | None, typer.Option(help="The reason; every reader sees it.")] = None,
) -> None:
    """Stop a generation, or all active ones of the chat. Stopping again is no error."""

    async def work(spool: AsyncSpool) -> ExitCode:
        stops = await spool.stop(chat, generation, reason=reason)
        _print_lines(*(f"{stop.generation_id}  {stop.outcome}" for stop in stops))
        if not stops:
            report(f"nothing is active in chat {chat}")
        return ExitCode.DONE

    run_with_spool(work)


@app.command(cls=DashedIds)
def status(
    chat: Chat,
    *,
    limit: Annotated[int, typer.Option(min=1, max=MAX_LIMIT, help="How many generations to show, the newest.")] = 100,
    before: Annotated[
        str | None, typer.Option(metavar="GENERATION", help="Show those in front of this generation.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the state of a chat and of its generations."""

    async def work(spool: AsyncSpool) -> ExitCode:
        found = await spool.status(chat, before=before, limit=limit)
        if as_json:
            write_output(_STATUS.dump_json(found, by_alias=True) + b"\n")
        else:
            _print_lines(*status_lines(found))
            if found.before is not None:
                report(f"there are more in front of these: --before {found.before}")
        return ExitCode.DONE

    run_with_spool(work)


@app.command(cls=DashedIds)
def erase(
    chat: Chat,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first. An erase cannot be undone.")] = False,
) -> None:
    """Erase a chat for good. Its active generations are stopped."""

    async def work(spool: AsyncSpool) -> ExitCode:
        found = await spool.status(chat, generation_ids=())
        if not (yes or confirm_erase(f"Erase chat {chat} up to seq {found.last}, {len(found.active)} active? [y/N] ")):
            report("nothing was erased")
            return ExitCode.DONE
        await spool.erase(chat)
        report(f"chat {chat} was erased")
        return ExitCode.DONE

    run_with_spool(work)


@app.command(cls=DashedIds)
def serve(
    *,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port to listen on.")] = 8000,
    open_access: Annotated[bool, typer.Option("--open", help="Let anyone read, ask, stop and erase.")] = False,
    loglevel: LogLevel = "INFO",
) -> None:
    """Serve the web routes and the chat page. Needs the extra "web", and a token secret unless --open is given."""

    def work() -> ExitCode:
        from chunkspool.web.serve import serve as run  # noqa: PLC0415 - the other commands need no extra

        run(Settings.from_env(), host, port, open_access=open_access, level=loglevel)
        return ExitCode.DONE

    run_and_exit(explain_missing("web", work))


@app.command(cls=DashedIds)
def token(
    chat: Annotated[str, typer.Argument(metavar="CHAT", show_default=False, help='The chat\'s id, or "*" for any.')],
    *,
    action: Annotated[list[str] | None, typer.Option(help="ask, read, stop, erase or list; may be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="How many seconds the token is valid.")] = 3600.0,
    owner: Annotated[str | None, typer.Option(help="Whose it is, for limits, and for the list of chats.")] = None,
) -> None:
    """Print a token for the web routes, signed with the token secret."""

    def work() -> ExitCode:
        from chunkspool.web.tokens import SignedTokens  # noqa: PLC0415 - as above

        settings = Settings.from_env()
        actions: Any = action or ("ask", "read", "stop")  # `issue` checks them
        _print_lines(SignedTokens.from_settings(settings).issue(chat, actions, seconds=seconds, owner=owner))
        return ExitCode.DONE

    run_and_exit(explain_missing("web", work))


def _screen(*, as_json: bool) -> Screen:
    return JsonScreen() if as_json else TextScreen()


def _print_lines(*lines: str) -> None:
    write_output("".join(f"{one_line(line)}\n" for line in lines).encode(sys.stdout.encoding, "replace"))


def _read_prompt(given: str) -> str:
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the prompt on standard input is not UTF-8: {error}") from None


def _parse_params(given: list[str] | tuple[()]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for argument in given:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise InvalidInput(f"--param {argument!r}: write NAME=VALUE")
        try:
            params[name] = json.loads(value)
        except ValueError:
            params[name] = value
    return params


chats.add_to(app)
people.add_to(app)
conversations.add_to(app)
keeping.add_to(app)
programs.add_to(app)
doctor.add_to(app)
stats.add_to(app)
outcomes.add_to(app)
