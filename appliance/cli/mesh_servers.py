"""`ingle mesh add` and `ingle mesh remove`: Triton servers that the mesh calls for their models."""

import click

from appliance.cli.output import print_json
from appliance.cli.target import Target, talks_to_a_node


@click.command("add", short_help="Have the mesh call a Triton server for its models.")
@click.argument("server", metavar="triton://HOST:PORT")
@click.option("--owner", default="", metavar="NAME", help="Of its models' names here.  [triton]")
@talks_to_a_node
def add(target: Target, server: str, owner: str) -> None:
    """Have every node of the mesh call a Triton server, by the port of its gRPC front, for the models that it has.

    Its 'resnet' is 'triton/resnet' here, or another owner's with --owner; its version 3 is 3.0.0. Servers that are
    added under one owner and tell the same of a version are taken to have the same, and stand in for each other.

    \b
    ingle mesh add triton://10.0.0.5:8001
    ingle mesh remove triton://10.0.0.5:8001
    """
    with target.client() as client:
        added = client.add_server(server, owner)
    if target.json:
        print_json(added)
    else:
        click.echo(f"The mesh calls {added.server} for its models: '{added.owner}/NAME' here. 'ingle mesh' shows it.")


@click.command("remove", short_help="Have the mesh call a Triton server no more.")
@click.argument("server", metavar="triton://HOST:PORT")
@talks_to_a_node
def remove(target: Target, server: str) -> None:
    """Have no node of the mesh call this Triton server any more. Nothing changes on the server."""
    with target.client() as client:
        removed = client.remove_server(server)
    if target.json:
        print_json(removed)
    else:
        click.echo(f"The mesh calls {removed.server} no more.")
