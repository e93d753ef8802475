"""`ingle mesh`: the machines of a LAN as one computer. The group, whose first verb is what it does without one."""

import importlib
from typing import TYPE_CHECKING

import click

from appliance.cli.output import print_json
from appliance.cli.quantities import Number
from appliance.cli.target import Target, talks_to_a_node

if TYPE_CHECKING:
    from rich.text import Text

# Each verb's file here, which has its command under the verb's name; loaded when it is asked for.
FILES_BY_VERB = {
    "show": "mesh",
    "invite": "mesh_invite",
    "join": "mesh_join",
    "leave": "mesh_join",
    "revoke": "mesh_revoke",
    "key": "mesh_key",
    "add": "mesh_servers",
    "remove": "mesh_servers",
}
_DEFAULT = "show"


class _MeshVerbs(click.Group):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = args and (not args[0].startswith("-") or args[0] in ctx.help_option_names)
        return super().parse_args(ctx, args if named else [_DEFAULT, *args])

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(FILES_BY_VERB)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in FILES_BY_VERB:
            return None
        command = getattr(importlib.import_module(f"appliance.cli.{FILES_BY_VERB[cmd_name]}"), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group("mesh", cls=_MeshVerbs, short_help="Show the nodes of the mesh, and say who belongs to it.")
def command() -> None:
    """The nodes that share a mesh key answer for each other's models, and find each other by themselves.

    Without a verb: show them. 'ingle doctor mesh' says why two nodes do not meet.
    """


@command.command("show", short_help="Show the nodes: also what 'ingle mesh' alone does.")
@click.option("--watch", "live", is_flag=True, help="Draw it anew each second, until Ctrl-C.")
@click.option("--interval", "interval_s", type=Number(0.1, 60), default=1.0, metavar="SECONDS", help="[1]")
@talks_to_a_node
def show(target: Target, live: bool, interval_s: float) -> None:
    """Show the nodes as one of them sees them: how each stands, its link to them, their load, what is warm where."""
    show_mesh(target, live=live, interval_s=interval_s)


def show_mesh(target: Target, *, live: bool, interval_s: float) -> None:
    """The page of the mesh, drawn again and again where `live` and the output is a terminal; or JSON, once."""
    from rich.console import Console

    from appliance.cli.live_page import is_live, print_once, watch
    from appliance.cli.mesh_screen import page

    console = Console()
    with target.client(timeout_s=10.0) as client:
        told = client.nodes()

        def look() -> None:
            nonlocal told
            told = client.nodes()

        def drawn(width: int, height: int | None) -> "list[Text]":
            return page(told, width=width, height=height)

        if target.json:
            print_json(told)
        elif live and is_live(console):
            watch(console, drawn, look, interval_s)
        else:
            print_once(console, drawn)
