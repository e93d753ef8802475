"""`ingle mesh invite`: a code with which one new node joins."""

import time

import click

from appliance.cli.output import print_json
from appliance.cli.target import Target, talks_to_a_node
from appliance.client import Client
from appliance.client_answers import Invitation
from appliance.core.errors import ForbiddenError, UnavailableError

_ASK_EVERY_S = 0.5


@click.command("invite", short_help="Let one new node in, by a short code.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the new node: the code stays good for ten minutes.")
@talks_to_a_node
def invite(target: Target, no_wait: bool) -> None:
    """Make a code, and wait until a new node has joined with it. Nobody can guess it, not even who listens in.

    \b
    here:              ingle mesh invite
    on the new box:    ingle mesh join K7M-4QX-T2W
    """
    with target.client() as client:
        made = client.invite()
        if target.json:
            print_json(made)
            return
        _tell(made)
        if no_wait:
            return
        click.echo("Waiting for it. Ctrl-C withdraws the invitation.", err=True)
        try:
            _wait(client, made)
        except (KeyboardInterrupt, click.Abort):
            client.withdraw_invitation(made.label)
            raise click.Abort from None


def _tell(made: Invitation) -> None:
    click.echo(f"The code {made.code} lets one new node in, for {made.ends_in_s / 60:.0f} minutes. On the new box:")
    click.echo(f"\n    ingle mesh join {made.code}\n")
    if made.addresses:
        where = "since this node cannot be found" if made.trouble else "where it finds nobody"
        click.echo(f"or, {where}: ingle mesh join {made.code} {made.addresses[0]}")
    for address in made.addresses[1:3]:
        click.echo(f"{' ' * 14}or at {address}")


def _wait(client: Client, made: Invitation) -> None:
    """Returns when somebody has joined. Raises ForbiddenError where the invitation ended otherwise."""
    told = 0
    while True:
        now = next((one for one in client.invitations() if one.label == made.label), None)
        if now is None:
            raise UnavailableError("the node was started anew, and the invitation is over: make another")
        for note in now.notes[told:]:
            click.echo(f"{note[:1].upper()}{note[1:]}.", err=now.standing != "joined")
        told = max(told, len(now.notes))
        if now.standing == "joined":
            return
        if now.standing != "open":
            words = {"expired": "its ten minutes are over", "spent": "too many wrong codes were tried"}
            reason = words.get(now.standing, "it was withdrawn")
            raise ForbiddenError(f"nobody joined: {reason}. Make another with `ingle mesh invite`")
        time.sleep(_ASK_EVERY_S)
