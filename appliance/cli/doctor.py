"""`ingle doctor`: whether this box can run a node, one sentence for each thing that matters."""

from collections.abc import Sequence

import click
import msgspec

from appliance.cli.main import FAILED
from appliance.cli.output import print_json
from appliance.cli.target import json_option

_COLOUR_BY_VERDICT = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command("doctor", short_help="Say whether this box can run a node.")
@click.option("--verify", is_flag=True, help="Read every artifact too, and say whether it is what was deployed.")
@json_option
def command(as_json: bool, verify: bool) -> int:
    """Look at kernel, Python, onnxruntime, the sandbox's layers, data folder, ports, memory, what is stored.

    A warning is something a node does without; a failure keeps it from running, and the exit code is 1.
    """
    from appliance.cli.examination import Finding, examine
    from appliance.cli.stored import examine_stored
    from appliance.settings import load_settings

    settings = load_settings()
    findings: Sequence[Finding] = [*examine(settings), *examine_stored(settings.data_dir, verify=verify)]
    if as_json:
        print_json([msgspec.structs.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            verdict = click.style(f"{finding.verdict:<4}", fg=_COLOUR_BY_VERDICT[finding.verdict])
            click.echo(f"{verdict}  {finding.about}: {finding.sentence}")
    return FAILED if any(finding.verdict == "fail" for finding in findings) else 0
