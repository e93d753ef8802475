"""What `ingle deploy` shows of the copies that its wish makes on other nodes, until they are there.

Runs in the command line. Every node makes its own copies: one that gets them is asked how they fare, and nobody is told
to do anything.
"""

import shutil
import sys
import time
from collections.abc import Callable

import click

from appliance.cli.output import size_words
from appliance.client import Client
from appliance.client_answers import CopyProgress, VersionCopies
from appliance.core.names import ModelName

LOOK_S = 0.25
QUIET_S = 15.0  # without anything under way or changed, until the rest is left to the nodes


def follow_copies(
    client: Client, model: ModelName, version: str, *, sleep: Callable[[float], None] = time.sleep
) -> VersionCopies:
    """Returns when no copy lacks any more, or nothing has moved for QUIET_S; what there is then."""
    quiet_s = 0.0
    seen: object = None
    line = Line(shown=sys.stderr.isatty())
    while True:
        told = next((state for state in client.copies(model) if state.version == version), None)
        # The node that was asked may hear a moment later of what it just made.
        state = told or VersionCopies(str(model), version, lacking=1)
        now = (state.nodes, state.lacking, [(copy.node, copy.step, copy.done_bytes) for copy in state.making])
        quiet_s = quiet_s + LOOK_S if now == seen else 0.0
        seen = now
        line.show(progress_words(state))
        if not state.lacking or quiet_s >= QUIET_S:
            line.end()
            return state
        sleep(LOOK_S)


def progress_words(state: VersionCopies) -> str:
    """One line on the copies that are there and on their way."""
    under_way = [_copy_words(copy, state.size_bytes) for copy in state.making if copy.step not in ("done", "failed")]
    there = f"Copies: {len(state.nodes)} there, {state.lacking} to come"
    return "; ".join([there, *under_way])


def outcome_words(state: VersionCopies) -> str:
    """Where the copies are in the end, and what lacks."""
    words = f"It lies on {', '.join(state.nodes)}." if state.nodes else "It lies nowhere yet."
    if state.lacking:
        words += f" {state.lacking} more copies are made as soon as nodes can have them."
    reasons = [f"{copy.node}: {copy.reason}" for copy in state.making if copy.step == "failed" and copy.reason]
    return "\n".join([words, *reasons])


def _copy_words(copy: CopyProgress, size_bytes: int) -> str:
    if copy.step != "fetching" or not size_bytes:
        return f"{copy.node} {copy.step}"
    share = min(1.0, copy.done_bytes / size_bytes)
    return f"{copy.node} {share:.0%} at {size_words(int(copy.bytes_per_s))}/s"


class Line:
    """One line of a terminal that is written over and over; nothing where there is no terminal."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def show(self, text: str) -> None:
        if self._shown:
            width = shutil.get_terminal_size().columns
            click.echo(f"\r\x1b[K{text[: width - 1]}", err=True, nl=False)

    def end(self) -> None:
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
