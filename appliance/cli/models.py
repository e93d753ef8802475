"""`ingle models`: what there is on a node."""

from collections.abc import Sequence

import click

from appliance.cli.output import device_words, print_json, print_table, size_words
from appliance.cli.target import Target, talks_to_a_node
from appliance.client_answers import Model


@click.command("models", short_help="List the models.")
@click.option("--tag", default="", metavar="WORD", help="Only models that carry this tag.")
@talks_to_a_node
def command(target: Target, tag: str) -> None:
    """List the models on a node, with their default version."""
    with target.client() as client:
        show_models(
            client.models(tag=tag), target, empty="There are no models yet: 'ingle deploy FILE.onnx' makes one."
        )


def show_models(models: Sequence[Model], target: Target, *, empty: str) -> None:
    """The list as JSON or as a table; `empty` is said to people instead of a table of nothing."""
    if target.json:
        print_json(models)
    elif not models:
        click.echo(empty, err=True)
    else:
        print_table(
            ("MODEL", "VERSION", "STATE", "REPLICAS", "MEMORY", "RUNS ON", "SIZE", "ALIASES", "TAGS", "DESCRIPTION"),
            [
                (
                    model.model,
                    f"{model.version} (of {len(model.versions)})" if len(model.versions) > 1 else model.version,
                    model.state,
                    model.replicas or "",
                    size_words(model.memory_bytes) if model.replicas else "",
                    device_words(model.runs_on),
                    size_words(model.size_bytes),
                    ", ".join(f"{alias}={version}" for alias, version in sorted(model.aliases.items())),
                    ", ".join(model.tags),
                    model.description,
                )
                for model in models
            ],
            right=("REPLICAS", "MEMORY", "SIZE"),
        )
