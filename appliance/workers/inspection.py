"""Looking at a model before it is taken: does it open, what does it take and give, does a sample run, may rows of
different calls share a run.

Runs in a forked, confined child that answers one JSON text on its socket and ends; the gateway bounds its time and
takes its death for an answer too. Nothing is written.
"""

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from appliance.catalogue.inspection import Inspection
from appliance.catalogue.onnx_file import check_external, read_onnx
from appliance.core.errors import BadInputError, IngleError, RefusedError
from appliance.core.frames import Invoke
from appliance.core.manifest import Manifest
from appliance.core.state import check_states, states_hidden
from appliance.core.tensors import Signature
from appliance.workers.batch_trial import made, may_batch
from appliance.workers.plain.content import tensors_from_content
from appliance.workers.plain.declarations import check_declarations
from appliance.workers.session import Session
from appliance.workers.spec import WorkerSpec
from appliance.workers.states import States
from appliance.workers.text_session import for_callers
from appliance.workers.vector_check import VECTORS, check_vectors
from appliance.workers.verdict import Verdict

Array = NDArray[Any]


def run_inspection(spec: WorkerSpec, sock: socket.socket) -> None:
    """The child's body: sends a Verdict without an outcome before each step, then the final one, each on a line."""

    def say(verdict: Verdict) -> None:
        sock.sendall(msgspec.json.encode(verdict) + b"\n")

    try:
        for word in inspect(spec):
            say(word if isinstance(word, Verdict) else Verdict(step=word))
    except IngleError as error:
        say(Verdict(refusal=error.sentence))
    except MemoryError:
        say(Verdict(refusal="the model needs more memory than its limit while it is looked at"))
    except Exception as error:
        say(Verdict(refusal=f"the model could not be looked at: {type(error).__name__}: {error}"))


def inspect(spec: WorkerSpec) -> Iterator[str | Verdict]:
    """The steps' names as they begin, and the verdict last. Raises RefusedError."""
    folder = Path(spec.folder)
    yield "reading the file"
    facts = read_onnx(folder / "model.onnx")
    check_external(folder, facts)
    yield "opening it in onnxruntime"
    opened = Session(folder / "model.onnx", threads=1, providers=spec.providers)
    if spec.manifest.tokenized is not None:
        yield "opening its tokenizer"
    session = for_callers(opened, spec.manifest, folder)
    signature = session.signature
    check_manifest(spec.manifest, signature)
    check_declarations(signature, spec.manifest)
    check_states(spec.manifest, signature)
    callers = states_hidden(signature, spec.manifest)
    yield "running a sample"
    warnings: list[str] = []
    sample = declared_sample(spec.manifest, callers)
    if sample is not None:
        try:
            session.run({**States(spec.manifest, signature).inputs(Invoke(0, 0, []), sample), **sample})
        except IngleError as error:
            raise RefusedError(f"the manifest's sample does not run: {error.sentence}") from None
    else:
        try:
            session.run({item.name: made(item, 1, 0) for item in signature.inputs if not item.optional})
        except IngleError as error:
            warnings.append(f"a made-up sample did not run, so give one in the manifest: {error.sentence}")
    if (folder / VECTORS).is_file():
        yield "running the bundle's test vectors"
        check_vectors(folder, session)
    yield "checking whether calls may share a run"
    batchable, reason = may_batch(session, spec.manifest, facts)
    yield Verdict(Inspection(callers, batchable, reason, tuple(warnings)))


def check_manifest(manifest: Manifest, signature: Signature) -> None:
    """Raises RefusedError where the manifest speaks of an input or output that the model does not have."""
    for what, declared, real in (
        ("input", manifest.input, signature.inputs),
        ("output", manifest.output, signature.outputs),
    ):
        specs = {spec.name: spec for spec in real}
        for item in declared:
            spec = specs.get(item.name)
            if spec is None:
                raise RefusedError(f"the manifest declares {what} '{item.name}', but the model has {', '.join(specs)}")
            if item.dtype and item.dtype != spec.dtype:
                raise RefusedError(f"the manifest says {what} '{item.name}' is {item.dtype}, but it is {spec.dtype}")


def declared_sample(manifest: Manifest, signature: Signature) -> dict[str, Array] | None:
    """The manifest's sample as tensors, None where it has none. Raises RefusedError where it does not fit."""
    if manifest.sample is None:
        return None
    text = msgspec.json.encode(manifest.sample)
    try:
        return tensors_from_content("application/json", text, signature, manifest)
    except BadInputError as error:
        raise RefusedError(f"the manifest's sample does not fit the model: {error.sentence}") from None
