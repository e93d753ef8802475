"""`ingle scale`: how many replicas a model is to have, and how soon its calls are to be answered."""

import click
import msgspec

from appliance.cli.output import print_json
from appliance.cli.quantities import Seconds, WholeNumber, duration_words
from appliance.cli.target import WHOLE_MODEL, Reference, Target, talks_to_a_node
from appliance.client_answers import ModelDetails, Scale

_REPLICAS = WholeNumber(0, 1000)


@click.command("scale", short_help="Say how many replicas a model has.")
@click.argument("model", type=WHOLE_MODEL)
@click.option("--min", "min_replicas", type=_REPLICAS, metavar="N", help="So many always stay warm; 0: none.")
@click.option("--max", "max_replicas", type=_REPLICAS, metavar="N", help="Never more than these; 0: the node decides.")
@click.option(
    "--latency",
    "latency_s",
    type=Seconds(3600.0),
    metavar="50ms",
    help="Scale so that calls take no longer; 0: default.",
)
@click.option("--pin/--unpin", "pinned", default=None, help="Keep the model warm always (--min 1), or no more.")
@click.option("--reset", is_flag=True, help="Leave all of it to the node again.")
@talks_to_a_node
def command(
    target: Target,
    model: Reference,
    min_replicas: int | None,
    max_replicas: int | None,
    latency_s: float | None,
    pinned: bool | None,
    reset: bool,
) -> None:
    """Say how MODEL is to be scaled; what is not said stays. Without options, show what is wished and what there is.

    \b
    ingle scale me/iris --min 1 --max 4 --latency 50ms
    ingle scale me/iris --pin
    """
    asked = (min_replicas, max_replicas, latency_s, pinned)
    if pinned is not None and min_replicas is not None:
        raise click.UsageError("--pin and --unpin say --min already: give one of them", click.get_current_context())
    if reset and any(value is not None for value in asked):
        raise click.UsageError("--reset leaves all to the node: give nothing beside it", click.get_current_context())
    with target.client() as client:
        details = client.show(model.name)
        if reset or any(value is not None for value in asked):
            wish = Scale() if reset else changed(details.scale, min_replicas, max_replicas, latency_s, pinned)
            if wish.max_replicas and wish.min_replicas > wish.max_replicas:
                raise click.UsageError(
                    f"at least {wish.min_replicas} replicas and at most {wish.max_replicas} is not possible: "
                    "give --min and --max together",
                    click.get_current_context(),
                )
            details.scale = client.set_scale(model.name, wish)
    if target.json:
        print_json({"model": details.model, **msgspec.structs.asdict(details.scale)})
    else:
        click.echo(f"{details.model}: {scale_words(details.scale)}.")
        click.echo(f"Now: {_present(details)}.")


def changed(
    scale: Scale, min_replicas: int | None, max_replicas: int | None, latency_s: float | None, pinned: bool | None
) -> Scale:
    """The wish with what was said put in. A pin never lowers a higher minimum."""
    least = min_replicas if min_replicas is not None else scale.min_replicas
    if pinned is not None:
        least = max(1, least) if pinned else 0
    return Scale(
        least,
        scale.max_replicas if max_replicas is None else max_replicas,
        scale.target_latency_s if latency_s is None else latency_s,
    )


def scale_words(scale: Scale) -> str:
    """The wish as half a sentence."""
    words = []
    if scale.min_replicas:
        words.append(f"at least {scale.min_replicas} always warm")
    if scale.max_replicas:
        words.append(f"at most {scale.max_replicas}")
    if scale.target_latency_s:
        words.append(f"calls within {duration_words(scale.target_latency_s)}")
    return ", ".join(words) or "as the node decides"


def _present(details: ModelDetails) -> str:
    count = len(details.workers)
    replicas = f"{count} replica{'' if count == 1 else 's'}" if count else "no replica"
    reason = f": {details.reason}" if details.reason else ""
    return f"version {details.version}, {replicas}, {details.state}{reason}"
