"""The command `ingle`: finds the verb's file, runs it, and turns what went wrong into a sentence and an exit code.

A verb's file is imported only when that verb is asked for, and imports what is heavy inside its function, so that the
command line answers at once.
"""

import importlib
import os
import sys
from collections.abc import Sequence

import click

from appliance.core.errors import (
    BusyError,
    ConflictError,
    DeadlineError,
    ForbiddenError,
    IngleError,
    NotFoundError,
    RefusedError,
    UnauthenticatedError,
    UnavailableError,
)

FAILED, USAGE, INTERRUPTED = 1, 2, 130
EXIT_CODES: tuple[tuple[int, str, tuple[type[IngleError], ...]], ...] = (
    (0, "done", ()),
    (FAILED, "failed", ()),
    (USAGE, "usage: the command line itself is wrong", ()),
    (3, "not found: the model, the file or whatever else was named", (NotFoundError,)),
    (4, "not allowed: the key is missing, unknown or not meant for this", (UnauthenticatedError, ForbiddenError)),
    (5, "busy or unreachable: the same may pass later", (BusyError, UnavailableError, DeadlineError)),
    (6, "refused: the model was looked at and not taken", (RefusedError, ConflictError)),
)
VERBS = (
    "serve",
    "deploy",
    "convert",
    "pack",
    "models",
    "show",
    "call",
    "why",
    "search",
    "top",
    "bench",
    "scale",
    "traffic",
    "alias",
    "rollback",
    "rm",
    "logs",
    "keys",
    "mesh",
    "backup",
    "restore",
    "doctor",
    "install",
    "uninstall",
    "update",
    "licenses",
    "completion",
    "version",
    "help",
    "demo",
)


class Verbs(click.Group):
    """The verbs in the order in which a new user meets them, each loaded when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command = importlib.import_module(f"appliance.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning, _ in EXIT_CODES])


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from appliance.core.release import VERSION

        click.echo(f"ingle {VERSION}")
        ctx.exit()


@click.command(
    cls=Verbs,
    name="ingle",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Turns a box into an inference appliance: models answer over HTTP and gRPC.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
def ingle() -> None:
    """The group itself does nothing; its verbs do."""


def exit_code(error: IngleError) -> int:
    """What a program is told by the process's status."""
    return next((code for code, _, errors in EXIT_CODES if isinstance(error, errors)), FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line and ends the process with its exit code."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; the exit code."""
    try:
        result = ingle.main(
            args=None if arguments is None else list(arguments), prog_name="ingle", standalone_mode=False
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.Abort:
        click.echo("Interrupted.", err=True)
        return INTERRUPTED
    except click.UsageError as error:
        verb = f" See '{error.ctx.command_path} --help'." if error.ctx else ""
        click.echo(_sentence(error.format_message()) + verb, err=True)
        return USAGE
    except click.ClickException as error:
        click.echo(_sentence(error.format_message()), err=True)
        return error.exit_code
    except IngleError as error:
        click.echo(_sentence(error.sentence), err=True)
        return exit_code(error)
    except BrokenPipeError:
        # Whoever read the output has enough (`ingle models | head`): the interpreter must not complain at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return result if isinstance(result, int) else 0


def _sentence(text: str) -> str:
    text = text.strip()
    begins_with_a_word = text.split(maxsplit=1)[:1] and text.split(maxsplit=1)[0].strip(",:").isalpha()
    if begins_with_a_word:  # and not with a file's or a model's name
        text = text[:1].upper() + text[1:]
    return text + ("" if text.endswith((".", "!", "?")) else ".")


if __name__ == "__main__":
    main()
