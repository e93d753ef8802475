"""`ingle doctor`: whether this box can run a node, a sentence for each thing that matters; and why two do not meet."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from appliance.cli.main import FAILED
from appliance.cli.output import print_json
from appliance.cli.target import json_option
from appliance.core.errors import BadInputError

if TYPE_CHECKING:
    from appliance.cli.examination import Finding

_COLOUR_BY_VERDICT = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.group(
    "doctor", short_help="Say whether this box can run a node, or why two do not meet.", invoke_without_command=True
)
@click.option("--verify", is_flag=True, help="Read every artifact too, and say whether it is what was deployed.")
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool, verify: bool) -> int:
    """Look at kernel, Python, onnxruntime, the sandbox's layers, data folder, ports, memory, what is stored.

    A warning is something a node does without; a failure keeps it from running, and the exit code is 1.
    """
    if ctx.invoked_subcommand is not None:
        return 0
    from appliance.cli.examination import examine
    from appliance.cli.stored import examine_stored
    from appliance.settings import load_settings

    settings = load_settings()
    return _told([*examine(settings), *examine_stored(settings.data_dir, verify=verify)], as_json=as_json)


@command.command("mesh", short_help="Say why nodes do not meet.")
@click.argument("address", metavar="[HOST:PORT]", default="")
@json_option
def mesh(address: str, as_json: bool) -> int:
    """Say why nodes do not meet: multicast, firewalls, keys, clocks, versions and ports, for all nodes that are in
    sight, known or remembered; or step by step for the one whose mesh is at HOST:PORT (8004 where no port is said).

    Run it on the box of one of the two, as the user that its node runs as; then on the other.
    """
    from appliance.cli.mesh_facts import gather, parse_target
    from appliance.cli.mesh_findings import findings_of
    from appliance.settings import load_settings

    try:
        targets = parse_target(address) if address else []
    except BadInputError as error:
        raise click.UsageError(error.sentence, click.get_current_context()) from None
    return _told(list(findings_of(gather(load_settings(), targets), is_asked=bool(targets))), as_json=as_json)


def _told(findings: "Sequence[Finding]", *, as_json: bool) -> int:
    if as_json:
        print_json([msgspec.structs.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            verdict = click.style(f"{finding.verdict:<4}", fg=_COLOUR_BY_VERDICT[finding.verdict])
            click.echo(f"{verdict}  {finding.about}: {finding.sentence}")
    return FAILED if any(finding.verdict == "fail" for finding in findings) else 0
