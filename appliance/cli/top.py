"""`ingle top`: what a node does right now, drawn anew each second."""

import time
from collections import deque
from typing import TYPE_CHECKING, get_args

import click

from appliance.cli.interval import Look, Shown, SortKey, between
from appliance.cli.mesh import show_mesh
from appliance.cli.output import print_json
from appliance.cli.quantities import Number
from appliance.cli.target import Target, talks_to_a_node

if TYPE_CHECKING:
    from rich.text import Text

    from appliance.client import Client

_CPU_LOOKS = 5  # over so many looks the processor's share is taken


@click.command("top", short_help="Show what a node does, live.")
@click.option("--sort", type=click.Choice(get_args(SortKey)), default="rate", help="What stands first. [rate]")
@click.option("--model", "pattern", default="*", metavar="PATTERN", help="Only these: me/*, or a part of the name.")
@click.option("--interval", "interval_s", type=Number(0.1, 60), default=1.0, metavar="SECONDS", help="[1]")
@click.option("--mesh", is_flag=True, help="The nodes of the mesh instead, and what is warm on which.")
@click.option("--once", is_flag=True, help="One table of one interval, and end.")
@talks_to_a_node
def command(target: Target, sort: SortKey, pattern: str, interval_s: float, mesh: bool, once: bool) -> None:
    """Show what the node does: its memory, its workers, and each model that is warm or called, until Ctrl-C.

    Rates and latencies are of the last interval. With --json, or where the output is no terminal, it is one interval.
    """
    if mesh:
        show_mesh(target, live=not once, interval_s=interval_s)
        return
    from rich.console import Console

    from appliance.cli.live_page import is_live, print_once, watch
    from appliance.cli.top_screen import page

    console = Console()
    with target.client(timeout_s=10.0) as client:
        looks = deque([_look(client)], _CPU_LOOKS)

        def shown() -> Shown:
            return between(tuple(looks), sort=sort, pattern=pattern)

        def drawn(width: int, height: int | None) -> "list[Text]":
            return page(shown(), width=width, height=height)

        if not (target.json or once) and is_live(console):
            watch(console, drawn, lambda: looks.append(_look(client)), interval_s)
            return
        try:
            time.sleep(interval_s)
        except KeyboardInterrupt:
            return
        looks.append(_look(client))
        if target.json:
            print_json(shown())
        else:
            print_once(console, drawn)


def _look(client: "Client") -> Look:
    return Look(client.activity(), time.monotonic())
