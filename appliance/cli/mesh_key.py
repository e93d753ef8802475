"""`ingle mesh key`: the key that makes a mesh of nodes: its id, itself, a new one, another's."""

import time
from pathlib import Path

import click

from appliance.cli.output import print_json
from appliance.cli.paths import EXISTING_FILE
from appliance.cli.stopped import stopped_node
from appliance.cli.target import Target, talks_to_a_node, talks_to_a_node_or_its_folder
from appliance.core.errors import BadInputError, UnsupportedError
from appliance.settings import load_settings
from federation.keyring import parse_mesh_key, read_current

_ROTATION_S = 10.0


@click.group("key", invoke_without_command=True, short_help="Show the mesh's key, change it, take another's.")
@click.option("--show", is_flag=True, help="Show the key itself: whoever has it can let a node in.")
@talks_to_a_node_or_its_folder
@click.pass_context
def key(context: click.Context, target: Target, show: bool) -> None:
    """Show the id of the mesh's key. With --show the key itself, which is read from this box's data folder: a node
    never tells it to anyone.

    \b
    ingle mesh key --show > mesh.key      # and on another box, with that file:
    ingle serve --mesh-key-file mesh.key
    """
    if context.invoked_subcommand is not None:
        return
    if show and target.url and not target.is_on_this_box:
        raise UnsupportedError(f"the key is not told over the network: run this on the box of {target.url}")
    if target.url and not show:
        with target.client() as client:
            key_id, words = client.mesh().key_id, ""
    else:
        current = read_current(load_settings().data_dir)
        key_id, words = current.id, current.secret.hex() if show else ""
    if target.json:
        print_json({"key_id": key_id, **({"key": words} if show else {})})
    else:
        click.echo(words or key_id)


@key.command("rotate")
@talks_to_a_node
def rotate(target: Target) -> None:
    """Give the mesh a new key. All members that live take it over their links, and nothing is interrupted; one that is
    away takes it when it comes back, within thirty days."""
    with target.client() as client:
        mesh = client.rotate_mesh_key()
        made = mesh.keys[0].key_id
        ends_s = time.monotonic() + _ROTATION_S
        while mesh.rotation != "done" and time.monotonic() < ends_s:
            time.sleep(0.1)
            mesh = client.mesh()
    if target.json:
        print_json(mesh)
    elif mesh.rotation == "done":
        click.echo(f"The mesh's key is {made} now, on all nodes that are up.")
    else:
        names = {member.node_id: member.name for member in mesh.members}
        late = ", ".join(names.get(node_id, node_id[:8]) for node_id in mesh.waits_for) or "some node"
        click.echo(f"The new key {made} is on its way; {late} has not taken it yet. It goes on by itself.")


@key.command("import")
@click.argument("file", metavar="FILE", type=EXISTING_FILE)
@click.option("--leave", is_flag=True, help="Also where this node is in a mesh with others, which it then leaves.")
@talks_to_a_node_or_its_folder
def import_key(target: Target, file: Path, leave: bool) -> None:
    """Join the mesh whose key is in FILE: 64 hexadecimal digits, as `ingle mesh key --show` prints them."""
    try:
        text = file.read_text("ascii").strip()
        taken = parse_mesh_key(text)
    except (BadInputError, UnicodeDecodeError, OSError) as error:
        raise BadInputError(f"{file} holds no mesh key: {getattr(error, 'sentence', error)}") from None
    if target.url:
        if target.url.startswith("http://") and not target.is_on_this_box:
            raise UnsupportedError(
                f"the key would go to {target.url} unencrypted: use https, or run this on the box itself"
            )
        with target.client() as client:
            client.import_mesh_key(text, leave=leave)
    else:
        with stopped_node() as node:
            node.take_key(taken, leave=leave)
    if target.json:
        print_json({"key_id": taken.id})
    else:
        click.echo(f"This node's mesh is that of the key {taken.id} now.")
