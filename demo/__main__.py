"""`make demo`: starts everything, tells the story, then stays until Ctrl-C (`--once`: exits after the story)."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from chunkspool import AsyncSpool, ChunkspoolError
from chunkspool.demo import browser, stack, story
from chunkspool.demo.process import CannotStart


def main() -> int:
    """Read the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="exit after the story; exit code 0 if all its checks passed"
    )
    parser.add_argument("--folder", type=Path, default=Path(".demo"), help="the folder for data and logs")
    arguments = parser.parse_args()
    # Turned into an exception, these also leave through the block that stops the demo's processes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _raise_interrupt)
    console = Console()
    try:
        return run(arguments.folder, console, once=arguments.once)
    except KeyboardInterrupt:
        console.print("\nThe demo has ended. Its data is kept, and none of its processes is left.")
        return 0
    except (CannotStart, ChunkspoolError, story.StoryFailed) as error:
        console.print(f"[red]The demo failed:[/] {escape(str(error))}")
        return 1


def run(folder: Path, console: Console, *, once: bool) -> int:
    """Run the demo. Raises `CannotStart`, `StoryFailed` or `ChunkspoolError`."""
    started = time.perf_counter()
    console.print(f"[bold]chunkspool demo[/] · data and logs in {folder}/")
    with stack.run(folder, lambda line: console.print(f"  [green]✓[/] {escape(line)}", highlight=False)) as up:
        console.print(f"[dim]everything is up after {time.perf_counter() - started:.1f} s[/]\n")
        asyncio.run(_tell_story(up, console))
        if not once:
            _print_invitation(up, console)
            threading.Event().wait()
    return 0


async def _tell_story(up: stack.Stack, console: Console) -> None:
    async with AsyncSpool.from_settings(up.settings) as spool:
        await story.tell(spool, console)


def _print_invitation(up: stack.Stack, console: Console) -> None:
    cli = Path(sys.executable).with_name("chunkspool")
    console.rule("[bold]3. Your turn[/]", align="left")
    opened = browser.open_page(up.web_url)
    console.print("The page is open in your browser:" if opened else "Open the page, ask, and reload it in mid-answer:")
    console.print(f"  {up.web_url}", highlight=False)
    console.print("Flower shows every generation as a task:")
    console.print(f"  {up.flower_url}/tasks", highlight=False)
    console.print("Try this in a second terminal:")
    lines = (
        f"export CHUNKSPOOL_REDIS_URL={up.settings.log.redis_url}",
        f'{cli} ask my-chat "Why is the sky blue?"',
        f"{cli} tail my-chat --follow --json",
        f"{cli} stop my-chat",
    )
    for line in lines:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print("[dim]Ctrl-C ends the demo.[/]")


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
