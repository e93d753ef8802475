"""`ingle serve`: starts a node and stays until it is told to end. Its flags are the settings, none is listed here."""

import sys
from pathlib import Path
from typing import Any

import click

from appliance.cli.paths import EXISTING_FILE
from appliance.core.errors import BadInputError, IngleError
from appliance.settings import SETTINGS, Setting, check_together, load_settings

_METAVARS = {"http": "HOST:PORT", "grpc": "HOST:PORT", "zmq": "HOST:PORT", "mesh": "HOST:PORT", "join": "HOST:PORT"}


def _option(setting: Setting) -> click.Option:
    """A flag that says nothing unless given, so that the environment and the file have their turn."""
    help_text = setting.description[:1].upper() + setting.description[1:]
    default = setting.default
    if default not in (None, "", False) and setting.key != "data_dir":
        help_text += f" [{default // 2**20}MiB]" if setting.is_size and default else f" [{default}]"
    names = [_parameter_name(setting), setting.flag]
    if setting.default is False:
        return click.Option(names, is_flag=True, flag_value="true", default=None, type=str, help=help_text)
    if setting.is_size:
        metavar = "SIZE"
    elif isinstance(default, (int, float)):
        metavar = "SECONDS" if setting.key.endswith("_s") else "N"
    else:
        path = setting.key.endswith(("_file", "_dir", "_cert", "tls_key"))
        metavar = "PATH" if path else _METAVARS.get(setting.key, "WORD")
    return click.Option(names, metavar=metavar, default=None, help=help_text)


def _parameter_name(setting: Setting) -> str:
    return setting.key.replace(".", "__")


def _serve(files: tuple[Path, ...], config: Path | None, **flags: Any) -> int:
    try:
        settings = load_settings({s.key: flags[_parameter_name(s)] for s in SETTINGS}, config=config)
        check_together(settings)
    except BadInputError as error:
        raise click.UsageError(error.sentence, click.get_current_context()) from None
    import uvloop

    from appliance.node import serve

    try:
        update = uvloop.run(serve(settings, files))
    except OSError as error:
        addresses = f"http {settings.http}, grpc {settings.grpc}, zmq {settings.zmq}"
        raise IngleError(f"the node could not start ({error.strerror or error}); it was to have {addresses}") from None
    if update is not None:
        from appliance.core.trial_watch import hand_over

        hand_over(settings.data_dir, update, sys.argv[1:])
    return 0


command = click.Command(
    "serve",
    callback=_serve,
    params=[
        click.Argument(
            ["files"],
            nargs=-1,
            metavar="[FILE.onnx ...]",
            type=EXISTING_FILE,
        ),
        *(_option(setting) for setting in SETTINGS),
        click.Option(
            ["--config"],
            metavar="PATH",
            type=click.Path(dir_okay=False, path_type=Path),
            help="The TOML file with settings (default: ingle.toml in the data folder, where there is one)",
        ),
    ],
    help="Start a node, with these models in it, and serve until Ctrl-C or SIGTERM.\n\n"
    "Each flag can also be said as a variable (--memory-budget: INGLE_MEMORY_BUDGET) and in the TOML file.",
    short_help="Start a node.",
)
