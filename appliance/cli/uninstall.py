"""`ingle uninstall`: takes away what `ingle install` brought; the data stays unless it is asked to go too."""

import click

from appliance.cli.install import carry_out, this_box
from appliance.cli.service import DATA, USER, plan_uninstall
from appliance.core.errors import NotFoundError


@click.command("uninstall", short_help="Take that away again.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing.")
@click.option("--purge", is_flag=True, help="Remove models, keys and the user too. There is no way back.")
def command(dry_run: bool, purge: bool) -> None:
    """End the service that 'ingle install' made, and remove it from this box."""
    steps = plan_uninstall(this_box(), purge=purge)
    if not steps:
        raise NotFoundError("nothing of 'ingle install' is on this box")
    carry_out(steps, dry_run=dry_run)
    if not purge:
        click.echo(f"Models and keys in {DATA} and the user '{USER}' stay: --purge removes them.")
