"""`ingle help`: what `--help` says, for those who look for it as a verb."""

import click


@click.command("help", short_help="Explain a verb.")
@click.argument("words", nargs=-1, metavar="[VERB ...]")
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show what the program can do, or what VERB does and takes."""
    context = ctx.find_root()
    for word in words:
        group = context.command
        found = group.get_command(context, word) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no verb '{' '.join(words)}'", ctx.find_root())
        context = click.Context(found, parent=context, info_name=word)
    click.echo(context.get_help())
