"""`ingle mesh revoke`: to throw a node out of the mesh."""

import sys

import click

from appliance.cli.output import print_json
from appliance.cli.target import Target, talks_to_a_node


@click.command("revoke", short_help="Throw a node out of the mesh, for good.")
@click.argument("member", metavar="NODE")
@click.option("--why", default="", metavar="TEXT", help="What the others' owners are to read about it.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@talks_to_a_node
def revoke(target: Target, member: str, why: str, yes: bool) -> None:
    """Throw NODE out: its links end everywhere at once, and the mesh has a new key, which it does not get.

    NODE is a name, or six or more digits of a node's id. A box that was lost or stolen is shut out so; a node that is
    only to work elsewhere leaves with `ingle mesh leave` on its own box.
    """
    if not yes and not target.json and sys.stdin.isatty():
        click.confirm(f"'{member}' will never be let in again as what it is. Go on?", abort=True, err=True)
    with target.client() as client:
        gone = client.revoke_node(member, why)
    if target.json:
        print_json(gone)
    else:
        click.echo(f"'{gone.name}' ({gone.node_id}) is thrown out, and the mesh's key is another.")
