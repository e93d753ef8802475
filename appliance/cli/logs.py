"""`ingle logs`: what a model's workers wrote."""

import time
from collections.abc import Sequence

import click

from appliance.cli.output import print_json
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node

POLL_S = 1.0


@click.command("logs", short_help="Show what a model's workers wrote.")
@click.argument("model", type=MODEL)
@click.option("--follow", "-f", is_flag=True, help="Stay and show new lines as they come, until Ctrl-C.")
@talks_to_a_node
def command(target: Target, model: Reference, follow: bool) -> None:
    """Show the last lines that the workers of MODEL wrote: onnxruntime's warnings, a crash's last words.

    With --follow and --json each line is a JSON string of its own.
    """
    with target.client() as client:
        lines = client.logs(model.name, model.version)
        if target.json and not follow:
            print_json(lines)
            return
        _print(lines, target)
        if not lines and not target.json:
            click.echo(f"The workers of {model.name} have written nothing.", err=True)
        while follow:
            time.sleep(POLL_S)
            later = client.logs(model.name, model.version)
            _print(lines_since(lines, later), target)
            lines = later


def lines_since(before: Sequence[str], after: Sequence[str]) -> Sequence[str]:
    """What `after` has behind what `before` showed, both being the last lines of one log that only grows."""
    for overlap in range(min(len(before), len(after)), 0, -1):
        if list(before[-overlap:]) == list(after[:overlap]):
            return after[overlap:]
    return after


def _print(lines: Sequence[str], target: Target) -> None:
    for line in lines:
        if target.json:
            import orjson

            click.echo(orjson.dumps(line))
        else:
            click.echo(line)
