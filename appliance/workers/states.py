"""The states of sequences: what the model gave back for each, until its next call. Runs in a worker process.

The gateway says when a sequence begins and when it may be forgotten, and how many there may be; a sequence is known
here by a number of the gateway's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError, SequenceLostError
from appliance.core.frames import Invoke
from appliance.core.manifest import Manifest
from appliance.core.state import initial_shape
from appliance.core.tensors import DTYPES, Signature

Array = NDArray[Any]


class States:
    """Of one model. For each call `begin`, `inputs` and, once it ran, `keep` are called."""

    def __init__(self, manifest: Manifest, signature: Signature) -> None:
        specs = {spec.name: spec for spec in signature.inputs}
        names = [spec.name for spec in signature.outputs]
        self._initial: dict[str, Array] = {}
        self._places: dict[str, int] = {}  # state's input to the number of its output
        for state in manifest.state:
            spec = specs[state.input]
            self._initial[state.input] = np.zeros(initial_shape(spec, state.shape), DTYPES[spec.dtype].numpy)
            self._places[state.input] = names.index(state.output)
        self._kept: dict[int, dict[str, Array]] = {}

    def begin(self, invoke: Invoke) -> None:
        """What the call says of sequences, whether or not it can be run."""
        for number in invoke.forget:
            self._kept.pop(number, None)
        if invoke.sequence_start:
            self._kept[invoke.sequence] = self._initial

    def inputs(self, invoke: Invoke, given: Mapping[str, object]) -> dict[str, Array]:
        """The states that this call runs with, besides what was `given`.

        Raises BadInputError where a caller sends what is kept here, SequenceLostError where nothing is.
        """
        if not invoke.sequence:
            return {name: array for name, array in self._initial.items() if name not in given}
        for name in self._initial:
            if name in given:
                raise BadInputError(f"input '{name}' is the model's state, which a sequence keeps: leave it out")
        kept = self._kept.get(invoke.sequence)
        if kept is None:
            raise SequenceLostError("the sequence's state is not here any more: start it anew")
        return kept

    def keep(self, invoke: Invoke, outputs: Sequence[Array], *, shared: bool) -> None:
        """Remembers what the next call of this sequence runs with. `shared`: the outputs are parts of a larger array,
        which must not be held for their sake."""
        if not invoke.sequence:
            return
        if invoke.sequence_end:
            self._kept.pop(invoke.sequence, None)
        elif invoke.sequence in self._kept:
            self._kept[invoke.sequence] = {
                name: outputs[place].copy() if shared else outputs[place] for name, place in self._places.items()
            }
