"""`ingle version`: which release this is."""

import click
import msgspec

from appliance.cli.target import json_option
from appliance.core.release import this_build


@click.command("version", short_help="Show the version.")
@json_option
def command(as_json: bool) -> None:
    """Show which release of Ingle this is."""
    build = this_build()
    click.echo(msgspec.json.encode(build).decode() if as_json else f"ingle {build.version}")
