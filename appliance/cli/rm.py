"""`ingle rm`: deletes a version or a whole model. Asks first."""

from collections.abc import Iterator

import click

from appliance.cli.main import FAILED
from appliance.cli.output import print_json
from appliance.cli.target import MODEL, Reference, Target, talks_to_a_node
from appliance.client_answers import Deleted
from appliance.core.errors import NotFoundError


@click.command("rm", short_help="Delete a version, or a whole model.")
@click.argument("model", type=MODEL)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@talks_to_a_node
def command(target: Target, model: Reference, yes: bool) -> int:
    """Delete MODEL: one version of it where one is named (owner/name:1.2.3), else all of them."""
    with target.client() as client:
        if not yes:
            try:
                details = client.show(model.name, model.version)
                versions = [details.version] if model.version else [row.version for row in details.versions]
                question = f"Delete {details.model} {', '.join(versions)}?"
            except NotFoundError:
                away = [node.name for node in client.nodes().nodes if node.standing == "dead"]
                if not away:
                    raise
                question = f"It lies on no node in reach. Delete it on {', '.join(away)} once back, if it lies there?"
            if not _agreed(question):
                click.echo("Nothing was deleted. (--yes deletes without asking.)", err=True)
                return FAILED
        gone = client.delete(model.name, model.version)
    if target.json:
        print_json(gone)
    else:
        for sentence in _told(gone):
            click.echo(sentence)
    return 0


def _told(gone: Deleted) -> Iterator[str]:
    if gone.deleted:
        yield f"Deleted {', '.join(f'{gone.model}:{version}' for version in gone.deleted)}."
    for version, nodes in gone.later.items():
        yield f"{gone.model}:{version} lies on {', '.join(nodes)}, out of reach now: it is deleted there on return."
    if gone.unknown:
        names = ", ".join(gone.unknown)
        yield f"What {names} may hold of it stays: out of reach since this node started, so not known here."


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C, or nobody there to answer
        click.echo(err=True)
        return False
