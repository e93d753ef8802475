"""`ingle rollback`: a model's default version back to what it was before."""

import click

from appliance.cli.output import print_json
from appliance.cli.target import WHOLE_MODEL, Reference, Target, talks_to_a_node


@click.command("rollback", short_help="Go back to the default version before.")
@click.argument("model", type=WHOLE_MODEL)
@talks_to_a_node
def command(target: Target, model: Reference) -> None:
    """Move the alias `default` of MODEL back to what it was before."""
    with target.client() as client:
        made = client.rollback(model.name)
    if target.json:
        print_json(made)
    else:
        click.echo(f"Calls of {made.model} without a version reach {made.version} now.")
