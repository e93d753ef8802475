"""`ingle traffic`: how a model's calls are spread over its versions, and how those compare."""

from typing import Any

import click

from appliance.cli.output import print_json, print_table
from appliance.cli.quantities import Number, Share, WholeNumber, duration_words, share_words
from appliance.cli.target import WHOLE_MODEL, Reference, Target, talks_to_a_node
from appliance.cli.trial_limits import limit_words
from appliance.client_answers import ShadowReport, Traffic, TrafficWish
from appliance.core.names import ModelName

_VERSION = "VERSION"
_NONE = "none"


@click.command("traffic", short_help="Spread calls over versions: canary, shadow.")
@click.argument("model", type=WHOLE_MODEL)
@click.option("--canary", metavar=_VERSION, help="Give this version a share of the calls; none: no more.")
@click.option("--share", type=Share(), metavar="5%", help="The canary's share.")
@click.option("--shadow", metavar=_VERSION, help="Send this version copies of calls, and compare its answers; none.")
@click.option("--shadow-share", type=Share(), metavar="10%", help="Of how many calls a copy is made. [100%]")
@click.option("--return-to", metavar=_VERSION, help="Back to this version where the default exceeds a limit; none.")
@click.option("--max-errors", type=Share(), metavar="2%", help="The limit on failed calls; 0: none.")
@click.option(
    "--max-latency",
    type=Number(0, 1e6),
    metavar="1.5",
    help="The limit on the time of calls, in times that of the version beside it; 0: none.",
)
@click.option("--least-calls", type=WholeNumber(1, 1_000_000), metavar="N", help="Calls before it is judged. [50]")
@click.option("--off", is_flag=True, help="Give all calls to the default version again.")
@talks_to_a_node
def command(target: Target, model: Reference, off: bool, **said: Any) -> None:
    """Spread the calls of MODEL that name no version; what is not said stays. Without options, show how they are
    spread, and how the versions compare.

    \b
    ingle traffic me/iris --canary 1.1.0 --share 5% --max-errors 2%
    ingle traffic me/iris --shadow 1.2.0 --shadow-share 10%
    ingle traffic me/iris --off
    """
    given = {word: value for word, value in said.items() if value is not None}
    if off and given:
        raise click.UsageError(
            "--off gives all calls to the default: say nothing beside it", click.get_current_context()
        )
    with target.client() as client:
        if off:
            traffic = client.delete_traffic(model.name)
        else:
            traffic = client.traffic(model.name)
            if given:
                traffic = client.set_traffic(model.name, changed(traffic, **given))
    if target.json:
        print_json(traffic)
    else:
        _show(traffic, model.name)


def changed(
    traffic: TrafficWish,
    *,
    canary: str | None = None,
    share: float | None = None,
    shadow: str | None = None,
    shadow_share: float | None = None,
    return_to: str | None = None,
    max_errors: float | None = None,
    max_latency: float | None = None,
    least_calls: int | None = None,
) -> TrafficWish:
    """The wish with what was said put in; `none` takes a version out. Raises UsageError where it makes no sense."""
    wish = TrafficWish(
        canary=_version(canary, traffic.canary),
        canary_share=traffic.canary_share if share is None else share,
        shadow=_version(shadow, traffic.shadow),
        shadow_share=traffic.shadow_share if shadow_share is None else shadow_share,
        return_to=_version(return_to, traffic.return_to),
        max_error_share=traffic.max_error_share if max_errors is None else max_errors,
        max_latency_ratio=traffic.max_latency_ratio if max_latency is None else max_latency,
        least_calls=traffic.least_calls if least_calls is None else least_calls,
    )
    if not wish.canary:
        if share:
            raise click.UsageError("--share is a canary's: name its version with --canary", _context())
        wish.canary_share = 0.0
    elif share is None and not wish.canary_share:
        raise click.UsageError("which share of the calls shall the canary get? Say --share 5%", _context())
    if not wish.shadow:
        if shadow_share is not None:
            raise click.UsageError("--shadow-share is a shadow's: name its version with --shadow", _context())
        wish.shadow_share = 1.0
    if wish.return_to and not (wish.max_error_share or wish.max_latency_ratio):
        raise click.UsageError("--return-to wants to know when: say --max-errors 2% or --max-latency 1.5", _context())
    return wish


def _version(said: str | None, before: str) -> str:
    return before if said is None else "" if said == _NONE else said


def _context() -> click.Context | None:
    return click.get_current_context(silent=True)


def _show(traffic: Traffic, name: ModelName) -> None:
    for sentence in sentences(traffic):
        click.echo(sentence)
    if traffic.canary or traffic.return_to:
        click.echo()
        print_table(
            ("VERSION", "AS", "SHARE", "ANSWERED", "FAILED", "MEAN"),
            _rows(traffic),
            right=("SHARE", "ANSWERED", "FAILED", "MEAN"),
        )
    if traffic.shadow and traffic.compared is not None:
        click.echo()
        _show_shadow(traffic.compared, traffic.shadow)
    if not (traffic.canary or traffic.shadow or traffic.return_to):
        click.echo(f"'ingle traffic {name} --canary VERSION --share 5%' tries another.")


def sentences(traffic: Traffic) -> list[str]:
    """How calls are spread, in words."""
    share = traffic.canary_share if traffic.canary else 0.0
    said = [f"Calls of {traffic.model} without a version: {share_words(1 - share)} to {traffic.default}, the default"]
    if share:
        said[0] += f", {share_words(share)} to {traffic.canary}, the canary"
    said[0] += "."
    if traffic.shadow:
        said.append(f"Copies of {share_words(traffic.shadow_share)} of them go to {traffic.shadow}, the shadow.")
    if share:
        said += _limits(traffic, traffic.default, f"{traffic.canary} gets no more calls")
    elif traffic.return_to and traffic.return_to != traffic.default:
        said += _limits(traffic, traffic.return_to, f"{traffic.return_to} is the default again")
    elif traffic.return_to:
        said.append(f"Once another version is the default, {traffic.return_to} is what to return to.")
    if traffic.ended:
        said.append(f"Taken back: {traffic.ended}.")
    return said


def _limits(traffic: Traffic, beside: str, act: str) -> list[str]:
    """When the version on trial is taken back, as one sentence, or none."""
    limits = limit_words(traffic, beside)
    return [f"{act} if {' or '.join(limits)}, judged from {traffic.least_calls} calls on."] if limits else []


def _rows(traffic: Traffic) -> list[tuple[str, ...]]:
    share = traffic.canary_share if traffic.canary else 0.0
    rows: list[tuple[str, ...]] = []
    for version, tally in traffic.versions.items():
        role = {traffic.default: "default", traffic.canary: "canary"}.get(version, "to return to")
        calls = tally.answered + tally.failed
        part = {"default": share_words(1 - share), "canary": share_words(share)}.get(role, "")
        failed = f"{tally.failed} ({share_words(tally.failed / calls)})" if tally.failed else "0"
        rows.append((version, role, part, str(tally.answered), failed, duration_words(tally.mean_s)))
    return rows


def _show_shadow(report: ShadowReport, version: str) -> None:
    compared = report.same + report.close + report.different
    print_table(
        (
            "SHADOW",
            "COMPARED",
            "SAME",
            "CLOSE",
            "DIFFERENT",
            "FAILED",
            "SKIPPED",
            "LARGEST DIFFERENCE",
            "RUN",
            "DEFAULT'S",
        ),
        [
            (
                version,
                compared,
                report.same,
                report.close,
                report.different,
                report.failed,
                report.skipped,
                f"{report.largest_difference:.3g} ({share_words(report.largest_relative_difference)})"
                if report.close or report.different
                else "",
                duration_words(report.run_s / compared) if compared else "",
                duration_words(report.own_run_s / compared) if compared else "",
            )
        ],
        right=("COMPARED", "SAME", "CLOSE", "DIFFERENT", "FAILED", "SKIPPED", "LARGEST DIFFERENCE", "RUN", "DEFAULT'S"),
    )
    if report.last_failure:
        click.echo(f"The last failure: {report.last_failure}")
