"""A module of Transformers as ONNX: traced where that is exact, else followed by torch.export.

In the process of a conversion alone. Tracing takes a tenth of the time, and wrote exactly all but a few of the
architectures that were tried; what it writes into a graph for good (a length, a branch) shows on rows of other sizes.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from appliance.core.errors import RefusedError
from appliance.core.tensors import TensorSpec
from converters.comparison import compare
from converters.converter import Feed
from converters.rows import FREE
from converters.session import Session
from converters.torch_inputs import quiet, tensor
from converters.torch_programs import exported, write, write_traced


def export(
    module: Any,
    specs: Sequence[TensorSpec],
    outputs: Sequence[str],
    target: Path,
    opset: int,
    trials: Sequence[Feed],
    *,
    side: int = FREE,
) -> str:
    """Writes `target`, which answers the trials as the module does; it is followed with free axes of `side`. What is to
    be said of it, or "". Raises RefusedError where neither way does."""
    module.eval()  # the older exporter puts a module back into the mode that the outermost had
    try:
        write_traced(module, specs, outputs, target, opset, side=side)
        fault = _difference(module, specs, outputs, target, trials)
    except RefusedError as error:
        fault = error.sentence
    if not fault:
        return ""
    for file in target.parent.iterdir():
        if file != target and file.name.startswith("model"):
            file.unlink()
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    program, notes = exported(module, specs, side=side)
    write(program, target, opset, inputs=[spec.name for spec in specs], outputs=outputs)
    return " ".join((f"it was followed by torch.export, since tracing it was not exact ({fault[:200]})", *notes))


def _difference(
    module: Any, specs: Sequence[TensorSpec], outputs: Sequence[str], target: Path, trials: Sequence[Feed]
) -> str:
    session = Session(target)
    for feed in trials:
        original = ask(module, [spec.name for spec in specs], outputs, feed)
        converted = session.run({spec.name: feed[spec.name] for spec in session.signature.inputs})
        for spec in session.signature.outputs:
            parity = compare(spec.name, spec.dtype, original[spec.name], converted[spec.name])
            if parity.rows_differ or parity.fault:
                return parity.fault or f"'{spec.name}' is off by {parity.max_absolute:.2g}"
    return ""


def ask(module: Any, inputs: Sequence[str], outputs: Sequence[str], feed: Feed) -> Feed:
    """The module's own answers."""
    with quiet():
        found = module(*(tensor(feed[name]) for name in inputs))
    tensors = found if isinstance(found, tuple) else (found,)
    return {name: np.asarray(value.detach().cpu().numpy()) for name, value in zip(outputs, tensors, strict=True)}
