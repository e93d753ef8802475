"""How verbs show what they found: tables for people, JSON for programs. rich is loaded only when a table is drawn."""

import time
from collections.abc import Iterable, Sequence

import click
import msgspec


def print_json(answer: object) -> None:
    """One JSON document on stdout, indented."""
    click.echo(msgspec.json.format(msgspec.json.encode(answer), indent=2))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """A table on stdout: as wide as the terminal, or unbounded where the output goes to a file or a pipe."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    terminal = Console()
    console = terminal if terminal.is_terminal else Console(width=10_000, no_color=True)
    with console.capture() as captured:
        console.print(table)
    # rich fills each line up to the table's width, which is noise in a file or a pipe.
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def size_words(size_bytes: float) -> str:
    """`3.2 MB`: for people, in powers of ten as file managers do."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 1000 or unit == "GB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("unreachable")


def time_words(unix_s: float) -> str:
    """The local date and minute."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(unix_s))


def shape_words(dtype: str, shape: Sequence[int]) -> str:
    """`FP32[?, 3, 224, 224]`."""
    return f"{dtype}[{', '.join('?' if size < 0 else str(size) for size in shape)}]"


def device_words(providers: Sequence[str]) -> str:
    """`CUDA`, from execution providers' names."""
    return ", ".join(name.removesuffix("ExecutionProvider") for name in providers)
