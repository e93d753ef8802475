"""The converted model as a node sees it: its signature, and a run; with texts in the place of tokens where its manifest
says so. In the process of a conversion alone."""

import os
import re
from pathlib import Path
from typing import Any

# Before onnxruntime is imported: it would start a thread and write an identifier under the user's cache folder.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from appliance.core.errors import RefusedError
from appliance.core.manifest import Manifest, TextInput
from appliance.core.tensors import DTYPE_OF_ORT, DTYPES, Signature, TensorSpec
from appliance.core.text_signature import texts_for_tokens
from appliance.core.words import tokenizer_of
from converters.converter import Feed


class Session:
    """Raises RefusedError where the model does not open, or takes or gives what no call could carry."""

    def __init__(self, model: Path, manifest: Manifest | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # a dozen unrelated classes
            raise RefusedError(_unopened(_line(error))) from None
        own = Signature(
            tuple(_spec(value, "input") for value in self._session.get_inputs()),
            tuple(_spec(value, "output") for value in self._session.get_outputs()),
        )
        self._specs = {spec.name: spec for spec in own.inputs}
        self._outputs = tuple(spec.name for spec in own.outputs)
        self.signature = texts_for_tokens(own, manifest or Manifest())
        self._text = manifest.tokenized if manifest else None
        if self._text is not None:
            self._tokenizer = tokenizer_of(self._text, model.parent, self._specs[self._text.ids])

    def run(self, feed: Feed) -> Feed:
        """All outputs by name. Raises RefusedError where the model fails on it."""
        offsets: Feed = {}
        if self._text is not None:
            feed, offsets = self._fed(feed, self._text)
        try:
            outputs = self._session.run(None, feed)
        except Exception as error:
            raise RefusedError(f"the converted model does not run: {_line(error)}") from None
        return {name: np.asarray(output) for name, output in zip(self._outputs, outputs, strict=True)} | offsets

    def _fed(self, feed: Feed, text: TextInput) -> tuple[Feed, Feed]:
        """The model's own inputs, and the tokens' offsets where they are an output."""
        texts, pairs = (feed[name].ravel().tolist() if name else None for name in (text.name, text.pair))
        tokens = self._tokenizer.tokens(texts or [], pairs)
        rows = {text.ids: tokens.ids, text.mask: tokens.mask, text.types: tokens.types}
        made = {
            name: np.array(row, DTYPES[self._specs[name].dtype].numpy)
            for name, row in rows.items()
            if name in self._specs
        }
        rest = {name: array for name, array in feed.items() if name not in (text.name, text.pair)}
        return rest | made, {text.offsets: np.array(tokens.offsets, np.int64)} if text.offsets else {}


def _spec(value: Any, what: str) -> TensorSpec:
    dtype = DTYPE_OF_ORT.get(value.type)
    if dtype is None:
        raise RefusedError(f"{what} '{value.name}' of the converted model is {value.type}, which no call can carry")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in value.shape)
    names = tuple(size if isinstance(size, str) else "" for size in value.shape)
    return TensorSpec(value.name, dtype, shape, names if any(names) else ())


def _unopened(words: str) -> str:
    """What onnxruntime says of a model that it does not open, without where in its own source it says so."""
    unknown = re.search(r"No Op registered for (\w+)|Fatal error: ([\w.:]+)\(-?\d+\) is not a registered", words)
    if unknown:
        return (
            f"the model has the operator {unknown.group(1) or unknown.group(2)}, which onnxruntime does not know: "
            "export it with standard operators, or with a function in the file for its own"
        )
    said = re.sub(r"/onnxruntime_src/\S+ .*?\) ", "", words)
    return f"the converted model does not open in onnxruntime: {said}"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:600]
