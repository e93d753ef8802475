"""`ingle update --from NODE` and `--from-mesh`: this box's node fetches a peer's one file. In the command line."""

import sys
import time
from pathlib import Path

import click

from appliance.cli.copies_progress import Line
from appliance.cli.output import size_words
from appliance.cli.update_choice import named, newest
from appliance.client import Client
from appliance.client_answers import MeshNode, ProgramFetch
from appliance.core.errors import IngleError, error_from_code
from appliance.core.release import Build

_LOOK_S = 0.1


def fetch_named(client: Client, own: Build, wanted: str, *, allow_downgrade: bool) -> Path:
    """The file that this peer runs from, on this box. Raises IngleError."""
    return _fetched(client, named(own, client.nodes().nodes, wanted, allow_downgrade=allow_downgrade))


def fetch_newest(client: Client, own: Build) -> Path | None:
    """The newest that a peer has and that can be fetched; None where none is newer than this program. Raises the last
    fault where none of them can be fetched."""
    fault: IngleError | None = None
    for node in newest(own, client.nodes().nodes):
        try:
            return _fetched(client, node)
        except IngleError as error:
            if fault is not None:
                click.echo(fault.sentence, err=True)
            fault = error
    if fault is not None:
        raise fault
    return None


def _fetched(client: Client, node: MeshNode) -> Path:
    fetch = client.fetch_program(node.node_id)
    click.echo(f"Fetching {fetch.version} of {fetch.node}, {size_words(fetch.size_bytes)}.")
    line = Line(shown=sys.stderr.isatty())
    while fetch.step not in ("done", "failed"):
        time.sleep(_LOOK_S)
        fetch = client.program()
        line.show(_words(fetch))
    line.end()
    if fetch.step == "failed":
        raise error_from_code(fetch.code, fetch.reason)
    return Path(fetch.file)


def _words(fetch: ProgramFetch) -> str:
    share = min(1.0, fetch.done_bytes / max(1, fetch.size_bytes))
    return f"{fetch.step} {share:.0%} at {size_words(int(fetch.bytes_per_s))}/s"
