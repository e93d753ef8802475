"""`ingle mesh join` and `ingle mesh leave`: to which mesh this box's node belongs, whether it runs or not."""

import asyncio

import click

from appliance.cli.output import print_json
from appliance.cli.stopped import stopped_node
from appliance.cli.target import Target, talks_to_a_node_or_its_folder
from appliance.client_answers import JoinedMesh
from appliance.core.errors import BadInputError
from federation.invitation_code import parse_code
from federation.invite_client import parse_invite_address


@click.command("join", short_help="Join a mesh with the code that `ingle mesh invite` printed.")
@click.argument("code", metavar="CODE")
@click.argument("address", metavar="[HOST:PORT]", default="")
@click.option("--leave", is_flag=True, help="Also where this node is in a mesh with others, which it then leaves.")
@talks_to_a_node_or_its_folder
def join(target: Target, code: str, address: str, leave: bool) -> None:
    """Make this box's node a member of the mesh whose node printed CODE. It is found on the LAN by itself; where it is
    not, give its HOST:PORT, which stands beside the code.

    A node that runs goes on running. Whatever models it has come along.
    """
    try:
        parsed = parse_code(code)
        at = [parse_invite_address(address)] if address else []
    except BadInputError as error:
        raise click.UsageError(error.sentence, click.get_current_context()) from None
    if target.url:
        with target.client() as client:
            joined = client.join_mesh(str(parsed), str(at[0]) if at else "", leave=leave)
    else:
        with stopped_node() as node:
            host = asyncio.run(node.join(parsed, at, leave=leave))
            joined = JoinedMesh(host.node_id, host.name, str(host.address), node.keyring.current.id)
    if target.json:
        print_json(joined)
    else:
        click.echo(f"Joined the mesh of '{joined.name}' ({joined.address}); its key is {joined.key_id}.")
        if not target.url:
            click.echo("This node does not run: start it with `ingle serve`.", err=True)


@click.command("leave", short_help="Leave the mesh.")
@talks_to_a_node_or_its_folder
def leave(target: Target) -> None:
    """Make this box's node a mesh of one again, with a key of its own. Its own models stay with it; calls that it
    handed on to others fail until they are deployed here."""
    if target.url:
        with target.client() as client:
            key_id = client.leave_mesh().key_id
    else:
        with stopped_node() as node:
            node.leave()
            key_id = node.keyring.current.id
    if target.json:
        print_json({"key_id": key_id})
    else:
        click.echo(f"This node is alone now; its key is {key_id}.")
