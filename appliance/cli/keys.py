"""`ingle keys`: who may do what."""

import click

from appliance.cli.output import print_json, print_table, time_words
from appliance.cli.target import Target, talks_to_a_node


@click.group("keys", short_help="List, create and revoke keys.")
def command() -> None:
    """List, create and revoke the keys of a node. Needs an admin key."""


@command.command("list")
@talks_to_a_node
def list_keys(target: Target) -> None:
    """List the keys, revoked ones too. Their secrets are not kept anywhere."""
    with target.client() as client:
        keys = client.keys()
    if target.json:
        print_json(keys)
    else:
        print_table(
            ("ID", "LABEL", "SCOPES", "MADE", "REVOKED"),
            [
                (
                    key.id,
                    key.label,
                    " ".join(key.scopes),
                    time_words(key.created_s),
                    "" if key.revoked_s is None else time_words(key.revoked_s),
                )
                for key in keys
            ],
        )


@command.command("create")
@click.argument("label")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("call",),
    metavar="SCOPE",
    help="call, deploy or admin, for all models or as call:owner/* or call:owner/name; may be given again. [call]",
)
@talks_to_a_node
def create_key(target: Target, label: str, scopes: tuple[str, ...]) -> None:
    """Make a key and show it, this once. LABEL says who or what it is for."""
    with target.client() as client:
        made = client.create_key(label, scopes)
    if target.json:
        print_json(made)
    else:
        click.echo(made.key)
        click.echo(f"Key {made.id} for '{made.label}' ({' '.join(made.scopes)}): it is not shown again.", err=True)


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@talks_to_a_node
def revoke_key(target: Target, key_id: str) -> None:
    """End the key with this ID at once."""
    with target.client() as client:
        gone = client.revoke_key(key_id)
    if target.json:
        print_json(gone)
    else:
        click.echo(f"Key {gone.id} ('{gone.label}') is revoked.")
