"""`chunkspool tenant`: shows and sets the limits of a tenant."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chunkspool.cli.dashed_ids import DashedIds
from chunkspool.cli.execute import run_with_spool
from chunkspool.cli.exit_codes import ExitCode
from chunkspool.cli.formatting import one_line
from chunkspool.cli.quantities import DEFAULT, parse_limit
from chunkspool.cli.terminal import write_output
from chunkspool.policy import LIMITS, Policy
from chunkspool.spool import AsyncSpool

app = typer.Typer(
    help="Show and set the limits of a tenant. All processes go by them from their next request on.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_WIDTH = max(map(len, LIMITS))
_ALL = "all"

Tenant = Annotated[str, typer.Argument(metavar="TENANT", show_default=False, help="The tenant's id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def _option(help_text: str) -> Any:
    return typer.Option(metavar="N", help=f"{help_text}; “default” for the setting's own.")


Limit = str | None


@app.command(cls=DashedIds)
def show(tenant: Tenant, *, as_json: Json = False) -> None:
    """Show the limits that hold for a tenant: its own, and the defaults for the others."""

    async def work(spool: AsyncSpool) -> ExitCode:
        _print(await spool.for_tenant(tenant).policy(), as_json=as_json)
        return ExitCode.DONE

    run_with_spool(work)


@app.command("set", cls=DashedIds)
def change(  # noqa: PLR0913 - as many as there are limits
    tenant: Tenant,
    *,
    queued: Annotated[Limit, _option("Generations that may wait")] = None,
    running: Annotated[Limit, _option("Generations that may run")] = None,
    per_minute: Annotated[Limit, _option("Requests in a minute")] = None,
    owner_queued: Annotated[Limit, _option("Generations of one owner that may wait")] = None,
    owner_running: Annotated[Limit, _option("Generations of one owner that may run")] = None,
    owner_per_minute: Annotated[Limit, _option("Requests of one owner in a minute")] = None,
    chat_per_minute: Annotated[Limit, _option("Requests in one chat in a minute")] = None,
    active: Annotated[Limit, _option("Generations of one chat that may wait or run")] = None,
    bytes: Annotated[Limit, _option("Bytes of the tenant's logs, such as 64GB")] = None,  # noqa: A002 - the limit's name
    owner_bytes: Annotated[Limit, _option("Bytes of the logs of one owner's chats, such as 1GB")] = None,
    chat_bytes: Annotated[Limit, _option("Bytes of one chat's log, such as 64MB")] = None,
    request_bytes: Annotated[Limit, _option("Bytes of one request, such as 256kB")] = None,
    streams: Annotated[Limit, _option("Open event streams")] = None,
    owner_streams: Annotated[Limit, _option("Open event streams of one owner")] = None,
    chat_streams: Annotated[Limit, _option("Open event streams of one chat")] = None,
    keep_events: Annotated[Limit, _option("Events of a chat's log that are kept, such as 10000")] = None,
    keep_bytes: Annotated[Limit, _option("Bytes of a chat's log that are kept, such as 16MB")] = None,
    pinned: Annotated[Limit, _option("Chats that may be pinned")] = None,
    ttl: Annotated[Limit, _option("How long a chat is kept, such as 7d, 12h or 90s")] = None,
    as_json: Json = False,
) -> None:
    """Set limits of a tenant; those that are not named stay as they are."""
    given = {name: value for name, value in locals().items() if name in LIMITS and value is not None}

    async def work(spool: AsyncSpool) -> ExitCode:
        limits = {name: parse_limit(name, value) for name, value in given.items()}
        of_tenant = spool.for_tenant(tenant)
        _print(await (of_tenant.set_policy(**limits) if limits else of_tenant.policy()), as_json=as_json)
        return ExitCode.DONE

    run_with_spool(work)


def _print(policy: Policy, *, as_json: bool) -> None:
    if as_json:
        write_output(policy.model_dump_json().encode() + b"\n")
        return
    lines = [f"{name:<{_WIDTH}}  {_shown(policy, name)}" for name in LIMITS]
    write_output("".join(f"{one_line(line)}\n" for line in lines).encode())


def _shown(policy: Policy, name: str) -> str:
    value = getattr(policy, name)
    shown = f"{value:g}" if isinstance(value, float) else value
    if value is None:
        shown = DEFAULT if name == "ttl" else _ALL
    return f"{shown:>12}  {Policy.model_fields[name].description}"
