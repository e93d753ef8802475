"""A page on a terminal that is drawn anew again and again, until Ctrl-C; and the same page once, for a pipe.

Knows nothing of what it shows: lines of rich's text.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import click

from appliance.core.errors import UnavailableError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

# A page for this width and height; height None: as long as it gets.
Page = Callable[[int, int | None], "Sequence[Text]"]


def is_live(console: "Console") -> bool:
    """Whether its output is a terminal on which a page can be drawn over the last one."""
    return console.is_terminal and not console.is_dumb_terminal


def print_once(console: "Console", page: Page) -> None:
    """The whole page; without colours and as wide as it gets where the output is no terminal."""
    for line in page(console.width if console.is_terminal else 10_000, None):
        if not console.is_terminal:
            click.echo(line.plain.rstrip())
            continue
        with console.capture() as captured:
            console.print(line, end="", soft_wrap=True)
        click.echo(captured.get())


def watch(console: "Console", page: Page, look: Callable[[], None], interval_s: float) -> None:
    """Draws the page, looks again, and so on. Returns at Ctrl-C. A node that cannot be reached meanwhile is told of
    above the page as it was, since it may be on its way up again; other errors end it."""
    from rich.live import Live
    from rich.text import Text

    trouble = ""

    def screen() -> Text:
        lines = page(console.width, console.height - (1 if trouble else 0))
        return Text("\n").join([*([Text(trouble[: console.width], style="bold red")] if trouble else []), *lines])

    try:
        with Live(get_renderable=screen, console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.refresh()
                time.sleep(interval_s)
                try:
                    look()
                    trouble = ""
                except UnavailableError as error:
                    trouble = f"{error.sentence[:1].upper()}{error.sentence[1:]}"
    except KeyboardInterrupt:
        return
