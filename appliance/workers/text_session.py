"""A session that takes texts where its model takes tokens, so that whoever runs it need know of none.

Runs in a worker process, after the fork. Texts of one run are filled up to the longest of them, and the model's mask
tells it what is filling: whether rows keep their answers so is tried at the deploy, as for any batch.
"""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from appliance.core.manifest import Manifest, TextInput
from appliance.core.tensors import DTYPES, Signature
from appliance.core.text_signature import texts_for_tokens
from appliance.core.tokenizer import Row, Tokens
from appliance.core.words import tokenizer_of
from appliance.workers.text_runs import by_length

Array = NDArray[Any]
Inputs = dict[str, Array]


class Model(Protocol):
    """What is asked: an open session, or one behind a tokenizer."""

    providers: list[str]
    signature: Signature

    def run(self, inputs: Inputs) -> list[Array]: ...


class TextSession:
    """`signature` is the callers'. Outputs are the model's, and behind them the tokens' offsets where asked for."""

    def __init__(
        self, session: Model, manifest: Manifest, declared: TextInput, folder: Path, *, together: int = 0
    ) -> None:
        """`together`: how many rows at most go through the model at once, where their answers are known not to depend
        on each other; below 2 all of a run do. Raises RefusedError where the declaration, the tokenizer's file and the
        model do not go together."""
        self.signature = texts_for_tokens(session.signature, manifest)
        self.providers = session.providers
        self._session = session
        # An answer with an axis of tokens is as long as the longest text of its run.
        free = any(-1 in spec.shape[1:] for spec in self.signature.outputs)
        self._together = 0 if free else together
        self._declared = declared
        specs = {spec.name: spec for spec in session.signature.inputs}
        self._dtypes = {
            name: np.dtype(DTYPES[specs[name].dtype].numpy)
            for name in (declared.ids, declared.mask, declared.types)
            if name in specs
        }
        self._tokenizer = tokenizer_of(declared, folder, specs[declared.ids])

    def run(self, inputs: Inputs) -> list[Array]:
        """As Session.run(), and raises BadInputError, TooLargeError for texts that cannot be taken."""
        rows, rest = self._rows(inputs)
        if self._together < 2 or len(rows) < 2:
            return self._run(rows, rest)
        groups = by_length([len(row.ids) for row in rows], self._together)
        parts = [
            self._run([rows[index] for index in group], {name: array[group] for name, array in rest.items()})
            for group in groups
        ]
        back = np.argsort([index for group in groups for index in group])
        return [np.concatenate(arrays)[back] for arrays in zip(*parts, strict=True)]

    def fed(self, inputs: Inputs) -> Inputs:
        """The model's own inputs, for all of these in one run."""
        rows, rest = self._rows(inputs)
        return rest | self._tensors(self._tokenizer.filled(rows))

    def _rows(self, inputs: Inputs) -> tuple[list[Row], Inputs]:
        """The texts' tokens, and the inputs that are no texts."""
        declared = self._declared
        texts = inputs[declared.name].reshape(-1).tolist()
        pairs = inputs[declared.pair].reshape(-1).tolist() if declared.pair else None
        rest = {name: array for name, array in inputs.items() if name not in (declared.name, declared.pair)}
        return self._tokenizer.rows(texts, pairs), rest

    def _tensors(self, tokens: Tokens) -> Inputs:
        declared = self._declared
        rows = {declared.ids: tokens.ids, declared.mask: tokens.mask, declared.types: tokens.types}
        return {name: np.array(rows[name], dtype) for name, dtype in self._dtypes.items()}

    def _run(self, rows: list[Row], rest: Inputs) -> list[Array]:
        tokens = self._tokenizer.filled(rows)
        outputs = self._session.run(rest | self._tensors(tokens))
        return [*outputs, np.array(tokens.offsets, np.int64)] if self._declared.offsets else outputs


def for_callers(session: Model, manifest: Manifest, folder: Path, *, together: int = 0) -> Model:
    """The session as callers see it, behind the tokenizer that its manifest names in `folder`. Raises RefusedError."""
    declared = manifest.tokenized
    return session if declared is None else TextSession(session, manifest, declared, folder, together=together)


def model_inputs(model: Model, inputs: Inputs) -> Inputs:
    """What the model itself runs on, for callers' inputs."""
    return model.fed(inputs) if isinstance(model, TextSession) else inputs
