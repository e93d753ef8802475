"""`ingle deploy`: sends a model to a node, which checks it and makes it a version."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from appliance.cli.output import print_json, size_words
from appliance.cli.quantities import Share, share_words
from appliance.cli.target import Target, talks_to_a_node
from appliance.cli.trial_limits import trial_limits
from appliance.client_answers import Deployed, TrafficWish
from appliance.core.errors import BadInputError
from appliance.core.names import ModelName, name_from_stem, parse_name, parse_reference
from appliance.core.versions import check_alias, parse_version

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("deploy", short_help="Send a model to a node.")
@click.argument("source", metavar="FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--name", default="", metavar="OWNER/NAME", help="Its name (default: the manifest's, else the file's).")
@click.option("--version", default="", metavar="1.2.3", help="Its version (default: the manifest's, else the next).")
@click.option("--manifest", type=_FILE, help="What the model wants and is, in TOML.")
@click.option("--labels", type=_FILE, help="Its labels, one a line.")
@click.option("--alias", "aliases", multiple=True, metavar="WORD", help="Let this alias mean it; may be given again.")
@click.option(
    "--canary", type=Share(), default=0.0, metavar="5%", help="Let it get this share of the calls, and no more."
)
@trial_limits("--max-errors", "--max-latency")
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
) -> None:
    """Send FILE to a node: an ONNX file (external data beside it comes along), a bundle, or a folder with model.onnx,
    manifest.toml and labels.txt.

    The node checks the model before it stores anything. The same model as that version again is no error; another
    model as a version that is there already is refused.

    With --canary the default version stays what it is and the new one gets a share of the calls. With --max-errors or
    --max-latency it is taken back by itself where it exceeds them against the version beside it.

    \b
    ingle deploy iris.onnx --name me/iris --canary 5% --max-errors 2%
    """
    from appliance.catalogue.packing import find_package, stream

    try:
        model, version = _asked(name, version)
        trial.canary_share = canary
        if canary and "default" in aliases:
            raise BadInputError("a canary is not the default: leave out --canary or --alias default")
        for alias in aliases:
            check_alias(alias)
        package = find_package(source, manifest, labels)
    except BadInputError as error:
        raise click.UsageError(error.sentence, click.get_current_context()) from None
    model = model or parse_name(package.manifest.name or name_from_stem(package.stem))
    version = version or package.manifest.version
    with (
        target.client() as client,
        click.progressbar(
            length=package.size_bytes,
            label=f"Sending {size_words(package.size_bytes)}",
            file=sys.stderr,
            hidden=target.json or not sys.stderr.isatty(),
        ) as bar,
    ):
        made = client.deploy(model, _until_sent(stream(package, bar.update)), version=version, trial=trial)
        for alias in aliases:
            client.set_alias(model, alias, made.version)
    if target.json:
        print_json(made)
    else:
        _tell(made, aliases, trial)


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
