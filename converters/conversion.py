"""One conversion from its job to what its bundle holds: the model, the manifest's table, test vectors and the record.

In the process of a conversion, once it is confined.
"""

import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal

import msgspec

from appliance.core.digests import file_digest, folder_digest
from appliance.core.errors import RefusedError
from appliance.core.manifest import manifest_from_table
from converters import registry
from converters.conversion_files import MODEL, RECORD, TABLE, VECTORS
from converters.converter import Conversion, Converter
from converters.job import Job
from converters.report import ConversionRecord


def convert(job: Job, say: Callable[[str], None]) -> ConversionRecord:
    """Fills the job's folder; the record, which may say that the two differ too much. Raises RefusedError."""
    converter = registry.converters()[job.framework]
    folder, source = Path(job.folder), Path(job.source)
    began_s = time.monotonic()
    made = converter.convert(source, job.detected, folder, job.options, say)
    seconds = time.monotonic() - began_s
    if made.model != folder / MODEL or not made.model.is_file():
        raise RefusedError(f"{converter.title} wrote no {MODEL}")
    manifest = manifest_from_table(made.manifest)  # what a node would refuse must not be packed
    precision = _reduce(made, job, say) or made.precision
    say("opening it in onnxruntime")
    # Not before: what compares is no part of a conversion's cost.
    from converters.parity import check
    from converters.samples import read_sample
    from converters.session import Session
    from converters.vectors import test_vectors

    session = Session(made.model, manifest)
    sample = read_sample(Path(job.sample), session.signature, made.manifest) if job.sample else None
    say("comparing it with the original")
    checked = check(made, session, sample=sample, rows=job.rows, seed=job.seed, precision=precision)
    notes = (*made.notes, *checked.notes)
    if not checked.report.within and (drawn := _randomness(made.model)):
        words = (
            f"the model draws random numbers ({', '.join(drawn)}), so that no two of its answers are alike: take the "
        )
        notes = (*notes, words + "step out, or put the module into eval mode before it is exported")
    opset = _opset(made.model)
    if job.options.opset and opset != job.options.opset:
        notes = (
            *notes,
            f"opset {job.options.opset} was asked for, and {converter.title} models come out in {opset} alone",
        )
    record = ConversionRecord(
        format=job.detected.format,
        framework=converter.name,
        source_digest=source_digest(source),
        model_digest=file_digest(made.model),
        opset=opset,
        libraries=_versions(converter),
        parity=checked.report,
        seconds=seconds,
        notes=notes,
        precision=precision,
    )
    (folder / "vectors").mkdir()
    (folder / VECTORS).write_bytes(msgspec.json.encode(test_vectors(checked.pairs, session.signature, precision)))
    (folder / TABLE).write_bytes(msgspec.json.encode(made.manifest))
    (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=2))
    return record


def source_digest(source: Path) -> str:
    """Of a file its sha256; of a folder that of its files' list; of a model given as code none."""
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file())
        return folder_digest({path.relative_to(source).as_posix(): file_digest(path) for path in files})
    return file_digest(source) if source.exists() else ""


def _reduce(made: Conversion, job: Job, say: Callable[[str], None]) -> str:
    if not (job.options.float16 or job.options.int8):
        return ""
    from converters import precision

    word: Literal["float16", "int8"] = "float16" if job.options.float16 else "int8"
    say(f"reducing it to {word}")
    precision.reduce(made.model, word)
    return word


def _opset(model: Path) -> int:
    try:
        import onnx
    except ImportError:
        return 0
    from converters.onnx_model import opset_of

    return opset_of(onnx.load(str(model), load_external_data=False))


def _randomness(model: Path) -> tuple[str, ...]:
    try:
        from converters.onnx_model import randomness
    except ImportError:
        return ()
    return randomness(model)


def _versions(converter: Converter) -> dict[str, str]:
    found = {}
    for requirement in (*registry.pins(converter.extra), "onnx", "onnxruntime", "numpy"):
        name = requirement.split(";")[0].strip().split("[")[0].split("=")[0].split(">")[0].split("<")[0].strip()
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
