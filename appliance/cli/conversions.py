"""Converting on the command line, for `convert` and `deploy`: what the model is, its conversion, and what it told.

The process of the conversion is another one; this one shows its steps and the comparison.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click

from appliance.cli.output import print_table
from appliance.cli.paths import ExistingPath
from appliance.core.errors import BadInputError, RefusedError
from converters.detected import Detected
from converters.job import Done
from converters.options import Options
from converters.report import ConversionRecord, OutputParity

_CODE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class Asked(NamedTuple):
    """What the user said of a conversion. `memory_bytes` 0: as the machine has."""

    options: Options
    sample: Path | None = None
    framework: str = ""
    isolate: bool = False
    timeout_s: float = 900.0
    memory_bytes: int = 0
    quiet: bool = False


class Converted(NamedTuple):
    """The bundle's members by their path in it, and the conversion's record."""

    members: dict[str, Path]
    record: ConversionRecord


def what_is(model: str) -> Detected:
    """What a path, or `module:factory`, is. Raises NotFoundError, RefusedError."""
    from converters.detection import detect
    from converters.looks.code import code

    if not Path(model).exists() and _CODE.fullmatch(model):
        module, _, factory = model.partition(":")
        return code(module, factory, Path.cwd())
    return detect(Path(model))


class ModelSource(ExistingPath):
    """A file or folder that is there, or `module:factory`."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and _CODE.fullmatch(value) and not Path(value).exists():
            return Path(value)
        return super().convert(value, param, ctx)


def to_be_converted(source: Path, asked: Asked) -> Detected | None:
    """What the source is, if it is to be converted before it is sent; None where the node takes it, or knows better
    what it is not."""
    if source.is_dir() and any(source.glob("*.onnx")):
        return None
    try:
        detected = what_is(str(source))
    except RefusedError:
        return None
    options = asked.options
    if detected.format == "onnx":
        return detected if options.opset or options.float16 or options.int8 else None
    return None if detected.format in ("bundle", "npz") else detected


def owner_table(manifest: Path | None, labels: Path | None) -> dict[str, Any]:
    """What the owner says of a model that is converted, as a manifest's table. Raises BadInputError."""
    from appliance.catalogue.bundle import parse_labels

    table: dict[str, Any] = {}
    try:
        if manifest:
            table = tomllib.loads(manifest.read_text(encoding="utf-8"))
        said = table.get("labels")
        if isinstance(said, str) and labels is None and manifest is not None:
            labels = manifest.parent / said
        if labels:
            table["labels"] = parse_labels(labels.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInputError(f"{labels or manifest} cannot be read: {error}") from None
    return table


@contextmanager
def converted(model: str, detected: Detected, asked: Asked, owner: dict[str, Any]) -> Iterator[Converted]:
    """Converts and compares; the members are there as long as the context is. The comparison is shown.

    Raises RefusedError where the model cannot be converted, or answers otherwise than the original.
    """
    from converters import bundling, environments, isolation, registry
    from converters.job import Job

    converter = registry.converter_of(detected, trusted=asked.options.trusted, name=asked.framework)
    if not asked.isolate:
        registry.check_installed(converter)
    with ExitStack() as places:
        environment = isolation.THIS_PYTHON
        if asked.isolate:
            _step(asked, f"making an environment for {converter.title}")
            environment = places.enter_context(environments.environment(converter))
        work = places.enter_context(isolation.workplace())
        is_path = Path(model).exists()
        job = Job(
            source=str(Path(model).resolve()) if is_path else model,
            detected=detected,
            framework=converter.name,
            folder=str(work / "bundle"),
            options=asked.options,
            sample=str(asked.sample.resolve()) if asked.sample else "",
            processes=converter.needs_processes,
            code_folder="" if is_path else str(Path.cwd()),
        )
        limits = isolation.Limits(seconds=asked.timeout_s, data_bytes=asked.memory_bytes)
        done = isolation.run(job, limits, environment=environment, on_step=lambda step: _step(asked, step))
        if not asked.quiet:
            show_comparison(done.record)
        _require_parity(done)
        yield Converted(bundling.finish(work / "bundle", owner), done.record)


def _step(asked: Asked, step: str) -> None:
    if not asked.quiet:
        click.echo(f"  {step} ...", err=True)


def _require_parity(done: Done) -> None:
    parity = done.record.parity
    if parity.within:
        return
    faults = "; ".join(fault for output in parity.outputs if (fault := output_fault(output)))
    faults = faults or "no output could be compared"
    raise RefusedError(f"the converted model does not answer as the original, so nothing is published: {faults}")


def output_fault(output: OutputParity) -> str:
    """What is wrong with an output, with the rows and by how much; empty where nothing is."""
    if output.fault:
        return f"output '{output.name}': {output.fault}"
    if not output.rows_differ:
        return ""
    rows = ", ".join(
        f"row {row.row} of run {row.run} ({row.original} became {row.converted})" for row in output.worst[:3]
    )
    share = f"{output.rows_differ} of {output.rows} rows differ"
    if output.max_absolute:  # words differ by no number
        share += f", by up to {output.max_absolute:.3g}"
    return f"output '{output.name}': {share}: {rows}"


def show_comparison(record: ConversionRecord) -> None:
    """The table of the comparison, to people: on stderr's terminal or not, it is what they asked for."""
    parity = record.parity
    rows = [
        (
            output.name,
            output.dtype,
            output.rows,
            f"{output.max_absolute:.3g}",
            f"{output.max_relative:.3g}",
            output.labels_differ,
            output.rows_differ,
            "no" if output.rows_differ or output.fault else "yes",
        )
        for output in parity.outputs
    ]
    columns = ("OUTPUT", "DTYPE", "ROWS", "MAX ABS", "MAX REL", "LABELS DIFFER", "ROWS DIFFER", "WITHIN")
    print_table(columns, rows, right=columns[2:7])
    where = "the sample" if parity.source == "sample" else "made rows"
    batches = ", ".join(map(str, parity.batch_sizes))
    click.echo(f"Compared on {parity.rows} rows of {where}, in batches of {batches}.")
    for name in parity.not_compared:
        click.echo(f"Output '{name}' could not be compared: the original has none like it.")
    for note in record.notes:
        click.echo(f"Note: {note}")
    sys.stdout.flush()
