"""`ingle deploy`: sends a model to a node, which checks it and makes it a version."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli.conversions import Asked, ModelSource, converted, owner_table, to_be_converted
from appliance.cli.convert import asked, conversion_options
from appliance.cli.copies_progress import follow_copies, outcome_words
from appliance.cli.output import print_json, size_words
from appliance.cli.paths import EXISTING_FILE
from appliance.cli.quantities import Share, WholeNumber, share_words
from appliance.cli.target import Target, talks_to_a_node
from appliance.cli.trial_limits import trial_limits
from appliance.client_answers import Deployed, TrafficWish
from appliance.core.copy_wish import MAX_REPLICAS, parse_places
from appliance.core.errors import BadInputError
from appliance.core.manifest import manifest_from_table
from appliance.core.names import ModelName, name_from_stem, parse_name, parse_reference
from appliance.core.versions import check_alias, parse_version

if TYPE_CHECKING:
    from appliance.catalogue.packing import Package


@click.command("deploy", short_help="Send a model to a node.")
@click.argument("source", metavar="MODEL", type=ModelSource())
@click.option("--name", default="", metavar="OWNER/NAME", help="Its name (default: the manifest's, else the file's).")
@click.option("--version", default="", metavar="1.2.3", help="Its version (default: the manifest's, else the next).")
@click.option("--manifest", type=EXISTING_FILE, help="What the model wants and is, in TOML.")
@click.option("--labels", type=EXISTING_FILE, help="Its labels, one a line.")
@click.option("--alias", "aliases", multiple=True, metavar="WORD", help="Let this alias mean it; may be given again.")
@click.option(
    "--canary", type=Share(), default=0.0, metavar="5%", help="Let it get this share of the calls, and no more."
)
@trial_limits("--max-errors", "--max-latency")
@click.option("--require-signature", is_flag=True, help="Have it refused unless a key that the node trusts signed it.")
@click.option(
    "--replicas", type=WholeNumber(0, MAX_REPLICAS), default=0, metavar="N", help="Keep it on N nodes of the mesh."
)
@click.option("--on", "places", default="", metavar="NODE|tag:WORD", help="On which nodes; several with commas.")
@conversion_options
@talks_to_a_node
def command(
    target: Target,
    source: Path,
    name: str,
    version: str,
    manifest: Path | None,
    labels: Path | None,
    aliases: tuple[str, ...],
    canary: float,
    trial: TrafficWish,
    require_signature: bool,
    replicas: int,
    places: str,
    **said: Any,
) -> None:
    """Send MODEL to a node: an ONNX file (external data beside it comes along), a bundle, or a folder with model.onnx,
    manifest.toml and labels.txt. What is of another framework is converted first, as 'ingle convert' does.

    The node checks the model before it stores anything. The same model as that version again is no error; another
    model as a version that is there already is refused.

    With --canary the default version stays what it is and the new one gets a share of the calls. With --max-errors or
    --max-latency it is taken back by itself where it exceeds them against the version beside it.

    With --replicas and --on its versions are copied to other nodes of the mesh, and copied again when one of those is
    lost. This is shown until it is done; the nodes go on with it if you do not wait. With --json nothing waits.

    \b
    ingle deploy iris.onnx --name me/iris --replicas 3
    ingle deploy iris.onnx --name me/iris --on attic,tag:gpu
    ingle deploy iris.onnx --name me/iris --canary 5% --max-errors 2%
    """
    from appliance.catalogue.packing import stream

    try:
        model, version = _asked(name, version)
        trial.canary_share = canary
        if canary and "default" in aliases:
            raise BadInputError("a canary is not the default: leave out --canary or --alias default")
        for alias in aliases:
            check_alias(alias)
        on = parse_places(places)
        wanted = asked(quiet=target.json, **said)
    except BadInputError as error:
        raise click.UsageError(error.sentence, click.get_current_context()) from None
    with ExitStack() as stack:
        try:
            package = _package(source, wanted, manifest, labels, stack)
        except BadInputError as error:
            raise click.UsageError(error.sentence, click.get_current_context()) from None
        model = model or parse_name(package.manifest.name or name_from_stem(package.stem))
        client = stack.enter_context(target.client())
        bar = stack.enter_context(
            click.progressbar(
                length=package.size_bytes,
                label=f"Sending {size_words(package.size_bytes)}",
                file=sys.stderr,
                hidden=target.json or not sys.stderr.isatty(),
            )
        )
        made = client.deploy(
            model,
            _until_sent(stream(package, bar.update)),
            version=version or package.manifest.version,
            trial=trial,
            require_signature=require_signature,
            replicas=replicas,
            on=on,
        )
        for alias in aliases:
            client.set_alias(model, alias, made.version)
        if target.json:
            print_json(made)
            return
        _tell(made, aliases, trial)
        if replicas or on:
            click.echo(outcome_words(follow_copies(client, model, made.version)))


def _package(source: Path, wanted: Asked, manifest: Path | None, labels: Path | None, stack: ExitStack) -> "Package":
    """What is sent, converted first where that is needed; it is there until the stack is closed."""
    from appliance.catalogue.bundle import MODEL
    from appliance.catalogue.packing import Package, find_package

    detected = to_be_converted(source, wanted)
    if detected is None:
        return find_package(source, manifest, labels)
    owner = owner_table(manifest, labels)
    made = stack.enter_context(converted(str(source), detected, wanted, owner))
    checked = manifest_from_table(owner)
    return Package(
        made.members[MODEL], tuple(made.members.items()), checked, source.name.rpartition(":")[2].split(".")[0]
    )


def _until_sent(chunks: Iterator[bytes]) -> Iterator[bytes]:
    # An empty piece would end a chunked body there and then.
    return (chunk for chunk in chunks if chunk)


def _asked(name: str, version: str) -> tuple[ModelName | None, str]:
    """The name and the version that were said, either of them perhaps as `owner/name:1.2.3`."""
    model, within = parse_reference(name) if name else (None, "")
    if within and version and within != version:
        raise BadInputError(f"--name says version {within} and --version says {version}: which one?")
    version = version or within
    return model, str(parse_version(version)) if version else ""


def _tell(made: Deployed, aliases: tuple[str, ...], trial: TrafficWish) -> None:
    for warning in made.warnings:
        click.echo(f"Warning: {warning}", err=True)
    done = "is deployed" if made.created else "was there already: nothing to do"
    click.echo(f"{made.model}:{made.version} {done} (sha256:{made.digest[:12]}).")
    for alias in aliases:
        click.echo(f"'{alias}' means {made.version} now.")
    if trial.canary_share:
        click.echo(
            f"{share_words(trial.canary_share)} of the calls without a version go to it. 'ingle traffic {made.model}' "
            f"shows how it fares, 'ingle alias {made.model} default {made.version}' gives it all of them."
        )
