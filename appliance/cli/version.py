"""`ingle version`: which release this is."""

import click

from appliance.cli.target import json_option
from appliance.core.release import VERSION


@click.command("version", short_help="Show the version.")
@json_option
def command(as_json: bool) -> None:
    """Show which release of Ingle this is."""
    click.echo(f'{{"version": "{VERSION}"}}' if as_json else f"ingle {VERSION}")
