"""`ingle licenses`: what this program is made of, and under which licences.

Installed, the packages that are installed are asked; the one file carries what its build found (build/components.py).
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from appliance.cli.output import print_json, print_table
from appliance.cli.target import json_option
from appliance.core.errors import NotFoundError
from appliance.core.licences import Component, installed_components

CARRIED = "licences.json"


@click.command("licenses", short_help="Say under which licences this program's parts are.")
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """List all that this program is made of; with NAME, print that part's licence."""
    components = _components()
    if name is not None:
        components = [component for component in components if component.name.lower() == name.lower()]
        if not components:
            raise NotFoundError(f"no part of this program is called {name!r}: 'ingle licenses' lists them")
    if as_json:
        print_json([msgspec.structs.asdict(component) for component in components])
    elif name is not None:
        for component in components:
            texts = component.texts or (f"{component.licence}. Its package brings no text; see {component.home}",)
            click.echo(f"{component.name} {component.version}\n\n" + "\n\n".join(texts))
    else:
        rows = [(c.name, c.version, c.licence, c.home) for c in components]
        print_table(("PART", "VERSION", "LICENCE", "HOME"), rows)


def _components() -> Sequence[Component]:
    carried = Path(getattr(sys, "_MEIPASS", "/nonexistent")) / CARRIED
    if carried.is_file():
        return msgspec.json.decode(carried.read_bytes(), type=list[Component])
    return installed_components()
