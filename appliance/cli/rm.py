"""`ingle rm`: deletes a version or a whole model. Asks first."""

import click

from appliance.cli.main import FAILED
from appliance.cli.output import print_json
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node


@click.command("rm", short_help="Delete a version, or a whole model.")
@click.argument("model", type=MODEL)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@talks_to_a_node
def command(target: Target, model: Reference, yes: bool) -> int:
    """Delete MODEL: one version of it where one is named (owner/name:1.2.3), else all of them."""
    with target.client() as client:
        if not yes:
            details = client.show(model.name, model.version)
            versions = [details.version] if model.version else [row.version for row in details.versions]
            if not _agreed(f"Delete {details.model} {', '.join(versions)}?"):
                click.echo("Nothing was deleted. (--yes deletes without asking.)", err=True)
                return FAILED
        gone = client.delete(model.name, model.version)
    if target.json:
        print_json(gone)
    else:
        click.echo(f"Deleted {', '.join(f'{gone.model}:{version}' for version in gone.deleted)}.")
    return 0


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or nobody there to answer
        click.echo(err=True)
        return False
