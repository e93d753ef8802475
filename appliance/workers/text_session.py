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
from appliance.core.tokenizer import Tokenizer

Array = NDArray[Any]
Inputs = dict[str, Array]


class Model(Protocol):
    """What is asked: an open session, or one behind a tokenizer."""

    providers: list[str]
    signature: Signature

    def run(self, inputs: Inputs) -> list[Array]: ...


class TextSession:
    """`signature` is the callers'. Outputs are the model's, and behind them the tokens' offsets where asked for."""

    def __init__(self, session: Model, manifest: Manifest, declared: TextInput, folder: Path) -> None:
        """Raises RefusedError where the declaration, the tokenizer's file and the model do not go together."""
        self.signature = texts_for_tokens(session.signature, manifest)
        self.providers = session.providers
        self._session = session
        self._declared = declared
        specs = {spec.name: spec for spec in session.signature.inputs}
        self._dtypes = {
            name: np.dtype(DTYPES[specs[name].dtype].numpy)
            for name in (declared.ids, declared.mask, declared.types)
            if name in specs
        }
        self._tokenizer = Tokenizer(folder, declared, length=max(0, specs[declared.ids].shape[1]))

    def run(self, inputs: Inputs) -> list[Array]:
        """As Session.run(), and raises BadInputError, TooLargeError for texts that cannot be taken."""
        fed, offsets = self.fed(inputs)
        outputs = self._session.run(fed)
        return [*outputs, offsets] if self._declared.offsets else outputs

    def fed(self, inputs: Inputs) -> tuple[Inputs, Array]:
        """The model's own inputs, and the offsets."""
        declared = self._declared
        texts = inputs[declared.name].reshape(-1).tolist()
        pairs = inputs[declared.pair].reshape(-1).tolist() if declared.pair else None
        tokens = self._tokenizer.tokens(texts, pairs)
        rows = {declared.ids: tokens.ids, declared.mask: tokens.mask, declared.types: tokens.types}
        fed = {name: array for name, array in inputs.items() if name not in (declared.name, declared.pair)}
        fed |= {name: np.array(rows[name], dtype) for name, dtype in self._dtypes.items()}
        return fed, np.array(tokens.offsets, np.int64)


def for_callers(session: Model, manifest: Manifest, folder: Path) -> Model:
    """The session as callers see it, behind the tokenizer that its manifest names in `folder`. Raises RefusedError."""
    declared = manifest.tokenized
    return session if declared is None else TextSession(session, manifest, declared, folder)


def model_inputs(model: Model, inputs: Inputs) -> Inputs:
    """What the model itself runs on, for callers' inputs."""
    return model.fed(inputs)[0] if isinstance(model, TextSession) else inputs
