"""`ingle backup`: all that a node has, as one file."""

import os
import sys
from pathlib import Path

import click

from appliance.cli.output import print_json, size_words
from appliance.cli.target import Target, talks_to_a_node
from appliance.core.durable import disk_faults, sync_folder


@click.command("backup", short_help="Save all that a node has to a file.")
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, allow_dash=True, path_type=Path))
@talks_to_a_node
def command(target: Target, file: Path) -> None:
    """Save the node's models, versions, aliases and keys to FILE, a tar; the node goes on serving. `-`: to the output.

    Keys are in it as hashes, which let nobody in; but FILE tells what there is, so only you may read it. What is the
    box's own is not in it: the node's id, its admin key, its certificate, its settings.
    """
    if str(file) == "-":
        with target.client() as client:
            client.backup(sys.stdout.buffer)
        return
    file = file.absolute()
    partial = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with disk_faults(file.parent, file=file):
            size_bytes = _write(target, partial)
            partial.rename(file)
            sync_folder(file.parent)
    finally:
        partial.unlink(missing_ok=True)
    if target.json:
        print_json({"file": str(file), "size_bytes": size_bytes})
    else:
        click.echo(f"{file} holds the node ({size_words(size_bytes)}).")


def _write(target: Target, partial: Path) -> int:
    with (
        target.client() as client,
        os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink,
        click.progressbar(
            length=0, label="Saving", file=sys.stderr, hidden=target.json or not sys.stderr.isatty()
        ) as bar,
    ):

        def on_bytes(piece: int, whole: int) -> None:
            bar.length = whole
            bar.update(piece)

        size_bytes = client.backup(sink, on_bytes)
        sink.flush()
        os.fsync(sink.fileno())
    return size_bytes
