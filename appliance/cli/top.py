"""`ingle top`: what a node does right now, drawn anew each second."""

import time
from collections import deque
from typing import TYPE_CHECKING, get_args

import click

from appliance.cli.interval import Look, Shown, SortKey, between
from appliance.cli.output import print_json
from appliance.cli.target import Target, talks_to_a_node
from appliance.core.errors import IngleError, UnavailableError

if TYPE_CHECKING:
    from rich.console import Console

    from appliance.client import Client

_CPU_LOOKS = 5  # over so many looks the processor's share is taken


@click.command("top", short_help="Show what a node does, live.")
@click.option("--sort", type=click.Choice(get_args(SortKey)), default="rate", help="What stands first. [rate]")
@click.option("--model", "pattern", default="*", metavar="PATTERN", help="Only these: me/*, or a part of the name.")
@click.option("--interval", "interval_s", type=click.FloatRange(0.1, 60), default=1.0, metavar="SECONDS", help="[1]")
@click.option("--once", is_flag=True, help="One table of one interval, and end.")
@talks_to_a_node
def command(target: Target, sort: SortKey, pattern: str, interval_s: float, once: bool) -> None:
    """Show what the node does: its memory, its workers, and each model that is warm or called, until Ctrl-C.

    Rates and latencies are of the last interval. With --json, or where the output is no terminal, it is one interval.
    """
    from rich.console import Console

    console = Console()
    with target.client(timeout_s=10.0) as client:
        looks = deque([_look(client)], _CPU_LOOKS)
        try:
            if target.json or once or not console.is_terminal or console.is_dumb_terminal:
                time.sleep(interval_s)
                looks.append(_look(client))
                _show(between(tuple(looks), sort=sort, pattern=pattern), target, console)
            else:
                _watch(client, console, looks, sort, pattern, interval_s)
        except KeyboardInterrupt:
            return


def _look(client: "Client") -> Look:
    return Look(client.activity(), time.monotonic())


def _show(shown: Shown, target: Target, console: "Console") -> None:
    from appliance.cli.top_screen import page

    if target.json:
        print_json(shown)
        return
    width = console.width if console.is_terminal else 10_000
    for line in page(shown, width=width, height=None):
        click.echo(line.plain.rstrip() if not console.is_terminal else _coloured(line, console))


def _coloured(line: object, console: "Console") -> str:
    with console.capture() as captured:
        console.print(line, end="", soft_wrap=True)
    return captured.get()


def _watch(
    client: "Client", console: "Console", looks: deque[Look], sort: SortKey, pattern: str, interval_s: float
) -> None:
    from rich.live import Live
    from rich.text import Text

    from appliance.cli.top_screen import page

    trouble = ""

    def screen() -> Text:
        height = console.height - (1 if trouble else 0)
        lines = page(between(tuple(looks), sort=sort, pattern=pattern), width=console.width, height=height)
        return Text("\n").join([*([Text(trouble[: console.width], style="bold red")] if trouble else []), *lines])

    with Live(get_renderable=screen, console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.refresh()
            time.sleep(interval_s)
            try:
                looks.append(_look(client))
                trouble = ""
            except UnavailableError as error:  # it may be on its way up again
                trouble = f"{error.sentence[:1].upper()}{error.sentence[1:]}"
            except IngleError:
                raise
