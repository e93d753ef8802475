"""`ingle restore`: a backup in the place of all that a node has."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from appliance.cli.output import print_json, size_words, time_words
from appliance.cli.paths import EXISTING_FILE
from appliance.cli.target import Target, talks_to_a_node

_CHUNK_BYTES = 1024 * 1024


@click.command("restore", short_help="Put a backup in the place of all that a node has.")
@click.argument("file", metavar="FILE", type=EXISTING_FILE)
@click.option("--yes", is_flag=True, help="Do not ask.")
@talks_to_a_node
def command(target: Target, file: Path, yes: bool) -> None:
    """Put FILE, which `ingle backup` made on this node or another, in the place of all models and keys of the node.

    The node goes on serving: calls in flight finish, and it has all of the old or all of the new at any moment. A file
    that was cut short or changed is refused. Keys become those of the backup; this box's admin key stays good.
    """
    if not yes and sys.stdin.isatty():
        click.confirm("All models and keys of the node will be replaced. Go on?", abort=True, err=True)
    size_bytes = file.stat().st_size
    with (
        target.client() as client,
        click.progressbar(
            length=size_bytes,
            label=f"Restoring {size_words(size_bytes)}",
            file=sys.stderr,
            hidden=target.json or not sys.stderr.isatty(),
        ) as bar,
    ):
        restored = client.restore(_chunks(file, bar.update))
    if target.json:
        print_json(restored)
    else:
        click.echo(
            f"The node has what '{restored.node}' had on {time_words(restored.created_s)}: {restored.models} models. "
            f"{restored.replaced} versions that it had are gone."
        )


def _chunks(file: Path, on_bytes: Callable[[int], None]) -> Iterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK_BYTES):
            yield chunk
            on_bytes(len(chunk))
