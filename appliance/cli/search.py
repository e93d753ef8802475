"""`ingle search`: models by words and tags."""

import click

from appliance.cli.models import show_models
from appliance.cli.target import Target, talks_to_a_node


@click.command("search", short_help="Find models by words.")
@click.argument("words", nargs=-1, required=True)
@click.option("--tag", default="", metavar="WORD", help="Only models that carry this tag.")
@talks_to_a_node
def command(target: Target, words: tuple[str, ...], tag: str) -> None:
    """Find models whose name, description, tags or labels have all these words."""
    query = " ".join(words)
    with target.client() as client:
        show_models(client.models(query, tag), target, empty=f"No model has '{query}' in its words.")
