"""`ingle convert`: makes a bundle of a model of any framework, after comparing the two."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from appliance.cli.conversions import Asked, converted, what_is
from appliance.cli.output import print_json, print_table
from appliance.cli.paths import EXISTING_FILE, EXISTING_PATH
from appliance.cli.quantities import Number, WholeNumber
from appliance.core.errors import BadInputError
from appliance.core.sizes import LEAST_BYTES, parse_size

_OPTIONS = (
    click.option("--sample", type=EXISTING_PATH, help="Rows to compare on: CSV, NPZ, Parquet, pictures."),
    click.option("--trust", is_flag=True, help="Convert even what runs code when opened, in the sandbox."),
    click.option("--isolate", is_flag=True, help="Make a throw-away environment with the framework, by uv."),
    click.option("--framework", default="", metavar="NAME", help="The converter (see --list); else it is found out."),
    click.option("--float16", is_flag=True, help="Half precision; the comparison shows what it costs."),
    click.option("--int8", is_flag=True, help="Weights of 8 bits; the comparison shows what it costs."),
    click.option("--opset", type=WholeNumber(1), default=None, metavar="N", help="The ONNX opset to convert to."),
    click.option("--input", "inputs", multiple=True, metavar="NAME=FP32[n,3,8,8]", help="An input."),
    click.option("--weights", type=EXISTING_FILE, help="Weights, for a model given as module:factory."),
    click.option("--timeout", "timeout_s", type=Number(1), default=900.0, help="Seconds it may take (900)."),
    click.option("--memory", default="0", metavar="SIZE", help="Memory it may use, such as 8GiB (default: no bound)."),
)  # fmt: skip


def conversion_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a conversion, which arrive as keywords that asked() takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def asked(*, quiet: bool, **said: Any) -> Asked:
    """What was said. Raises click.UsageError where it does not go together."""
    from converters.options import Options

    if said["float16"] and said["int8"]:
        raise click.UsageError("--float16 and --int8: which one?")
    options = Options(
        opset=said["opset"] or 0,
        float16=said["float16"],
        int8=said["int8"],
        trusted=said["trust"],
        inputs=said["inputs"],
        weights=str(said["weights"].resolve()) if said["weights"] else "",
    )
    try:
        memory_bytes = parse_size(said["memory"], least_bytes=LEAST_BYTES)
    except BadInputError as error:
        raise click.UsageError(error.sentence) from None
    return Asked(
        options,
        sample=said["sample"],
        framework=said["framework"],
        isolate=said["isolate"],
        timeout_s=said["timeout_s"],
        memory_bytes=memory_bytes,
        quiet=quiet,
    )


@click.command("convert", short_help="Make a bundle of a model of any framework.")
@click.argument("model", metavar="[MODEL]", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The bundle (default: NAME.ingle).",
)
@click.option("--list", "list_", is_flag=True, help="Show every framework, what is installed, what it takes.")
@click.option("--json", "json_", is_flag=True, help="For programs.")
@conversion_options
def command(model: str | None, output: Path | None, list_: bool, json_: bool, **said: Any) -> None:
    """Make a bundle of MODEL: a file or folder of any framework, or module:factory for a model that is code.

    The converted model is compared with the original, on --sample or on made rows, and nothing is written where they do
    not agree. An OUTPUT that ends with .onnx gets the model alone.
    """
    if list_:
        _list(json_)
        return
    if not model:
        raise click.UsageError("expected a MODEL, or --list", click.get_current_context())
    wanted = asked(quiet=json_, **said)
    target = output or Path(f"{Path(model.rpartition(':')[2]).stem or 'model'}.ingle")
    if target.exists() and Path(model).exists() and target.resolve() == Path(model).resolve():
        raise click.UsageError(f"{target} is the model itself: name another file with -o")
    detected = what_is(model)
    with converted(model, detected, wanted, {}) as made:
        _write(target, made.members)
    if json_:
        print_json({"output": str(target), **_built_in(made.record)})
    else:
        click.echo(f"{target} is written: {made.record.libraries and detected.what}, opset {made.record.opset or '?'}.")


def _write(target: Path, members: dict[str, Path]) -> None:
    import shutil

    from appliance.catalogue.bundle_file import write_bundle

    if target.suffix != ".onnx":
        write_bundle(target, members)
        return
    beside = [name for name in members if not name.startswith(("model.onnx", "vectors/")) and name.endswith(".data")]
    if beside or "model.onnx.data" in members:
        raise BadInputError("the model has its weights in a file beside it: name a bundle, such as -o model.ingle")
    partial = target.with_name(f".{target.name}.part")
    shutil.copyfile(members["model.onnx"], partial)
    partial.replace(target)


def _built_in(record: Any) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(record)
    return found


def _list(json_: bool) -> None:
    from converters.registry import listed

    rows = listed()
    if json_:
        print_json([row._asdict() for row in rows])
        return
    print_table(
        ("FRAMEWORK", "INSTALLED", "TAKES", "INSTALL"),
        [
            (
                row.title,
                "no" if row.missing else "yes",
                row.takes,
                f"pip install 'ingle[{row.extra}]'" if row.missing and row.extra else "",
            )
            for row in rows
        ],
    )
