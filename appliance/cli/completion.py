"""`ingle completion`: the script that lets a shell complete verbs, flags and the names of models."""

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

SHELLS = ("bash", "zsh", "fish")


@click.command("completion", short_help="Print the shell's completion script.")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
def command(shell: str | None) -> None:
    """Print the completion script for SHELL (default: the one that $SHELL names).

    \b
    bash: ingle completion bash > ~/.local/share/bash-completion/completions/ingle
    zsh:  ingle completion zsh > "${fpath[1]}/_ingle"
    fish: ingle completion fish > ~/.config/fish/completions/ingle.fish
    """
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in SHELLS:
        raise click.UsageError(f"which shell? Expected one of {', '.join(SHELLS)}", click.get_current_context())
    click.echo(script(shell))


def script(shell: str) -> str:
    """What one of SHELLS is to read."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    completion = kind(root, {}, "ingle", "_INGLE_COMPLETE")
    # Not completion.source(): click checks bash's version there by running it, which needs no bash on this box.
    return completion.source_template % completion.source_vars()
