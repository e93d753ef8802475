"""A model's outputs as the caller asked for them: raw tensors, V2's JSON, or a plain answer.

Runs in a worker process, so that the gateway passes bytes on and never touches an array.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from numpy.typing import NDArray

from appliance.core.errors import BadInputError
from appliance.core.frames import AnswerForm, Encoding, Invoke, OutputWish, SharedPlace, TensorHead
from appliance.core.manifest import Manifest
from appliance.core.tensors import TensorSpec
from appliance.workers import tensors
from appliance.workers.plain.answer import plain_answer

Array = NDArray[Any]
# Bound once: to look up an enum's member costs more than to compare it.
_PLAIN, _GENERATE, _V2_JSON = int(AnswerForm.PLAIN), int(AnswerForm.GENERATE), int(AnswerForm.V2_JSON)
_RAW = int(Encoding.RAW)
# heads, text size, body parts, body size
Written = tuple[list[TensorHead], int, list[bytes | memoryview], int]


class OutputWriter:
    """Writes answers for one model; what does not change from call to call is made once."""

    def __init__(self, specs: Sequence[TensorSpec], manifest: Manifest, region: memoryview) -> None:
        """`region` is what this worker shares with the gateway, for outputs that go on to memory of their callers'."""
        self._region = region
        self._specs = tuple(specs)
        self._index = {spec.name: index for index, spec in enumerate(specs)}
        self._manifest = manifest
        self._dtypes = {spec.name: spec.dtype for spec in specs}
        # Everything of an output's JSON up to its shape, as it always begins.
        self._starts = [
            b'{"name":' + orjson.dumps(spec.name) + b',"datatype":"' + spec.dtype.encode() + b'","shape":['
            for spec in specs
        ]
        self._given = [(spec, index) for index, spec in enumerate(specs) if not spec.optional]
        # The text of all outputs as binary, which follows from their shapes alone unless some are strings.
        self._binary_text: tuple[list[tuple[int, ...]] | None, bytes] = (None, b"")
        self._text_follows = all(spec.dtype != "BYTES" for spec, _ in self._given)
        self._all = {binary: [OutputWish(spec.name, binary) for spec, _ in self._given] for binary in (False, True)}

    def write(self, invoke: Invoke, outputs: Sequence[Array], *, batched: bool) -> Written:
        """One call's answer. Raises BadInputError where an output cannot be written as asked."""
        if invoke.form == _PLAIN:
            named = {spec.name: outputs[index] for spec, index in self._given}
            text = plain_answer(named, self._dtypes, self._manifest)
            return [], len(text), [text], len(text)
        if invoke.form == _GENERATE:
            text = self._members(outputs)
            return [], len(text), [text], len(text)
        wishes = self._all[invoke.binary] if invoke.outputs is None else invoke.outputs
        if invoke.form == _V2_JSON:
            if invoke.outputs is None and invoke.binary and self._text_follows:
                return self._all_binary(outputs)
            return self._v2(wishes, outputs, batched)
        heads: list[TensorHead] = []
        parts: list[bytes | memoryview] = []
        size = 0
        last: list[bytes] = []
        for wish in wishes:
            dtype, array = self._wished(wish, outputs, batched)
            if wish.shared is not None:
                heads.append(self._share(wish, wish.shared, dtype, array, last))
                continue
            data = tensors.to_raw(dtype, array)
            heads.append(TensorHead(wish.name, dtype, list(array.shape), _RAW, len(data)))
            parts.append(data)
            size += len(data)
        return heads, 0, [*parts, *last], size + sum(map(len, last))

    def _members(self, outputs: Sequence[Array]) -> bytes:
        """V2's generate: an output of one element is that element, any other a flat list."""
        text = []
        for spec, index in self._given:
            output = outputs[index]
            data = tensors.to_json(spec.name, spec.dtype, output)
            text.append(orjson.dumps(spec.name) + b":" + (data[1:-1] if output.size == 1 else data))
        return b",".join(text)

    def _share(self, wish: OutputWish, place: SharedPlace, dtype: str, array: Array, last: list[bytes]) -> TensorHead:
        """Puts an output where it goes on to its caller's memory: into the region, or behind all else in the body.

        Raises BadInputError where it is larger than the place that its caller has for it.
        """
        data = tensors.to_raw(dtype, array)
        if len(data) > place.size_bytes:
            raise BadInputError(
                f"output '{wish.name}' has {len(data)} bytes, but its place in the shared memory region "
                f"'{place.region[:100]}' has {place.size_bytes}: make it larger"
            )
        if place.start >= 0:
            self._region[place.start : place.start + len(data)] = data
        else:
            last.append(bytes(data))
        return TensorHead(wish.name, dtype, list(array.shape), _RAW, len(data), place.start, place)

    def _wished(self, wish: OutputWish, outputs: Sequence[Array], batched: bool) -> tuple[str, Array]:
        index = self._index[wish.name]
        dtype, array = self._specs[index].dtype, outputs[index]
        if wish.class_count:
            return "BYTES", tensors.classify(dtype, array, wish.class_count, batched, self._manifest.labels)
        return dtype, array

    def _all_binary(self, outputs: Sequence[Array]) -> Written:
        """What _v2() writes where nothing is asked for by name: the last call's text again, where the shapes are."""
        shapes = [outputs[index].shape for _, index in self._given]
        if shapes != self._binary_text[0]:
            self._binary_text = (shapes, bytes(self._v2(self._all[True], outputs, batched=False)[2][0]))
        text = self._binary_text[1]
        parts = [text, *(tensors.to_raw(spec.dtype, outputs[index]) for spec, index in self._given)]
        return [], len(text), parts, sum(map(len, parts))

    def _v2(self, wishes: Sequence[OutputWish], outputs: Sequence[Array], batched: bool) -> Written:
        text: list[bytes] = []
        binary: list[bytes | memoryview] = []
        last: list[bytes] = []
        heads: list[TensorHead] = []
        for wish in wishes:
            dtype, array = self._wished(wish, outputs, batched)
            start = self._starts[self._index[wish.name]]
            if wish.class_count:
                start = b'{"name":' + orjson.dumps(wish.name) + b',"datatype":"BYTES","shape":['
            shape = ",".join(map(str, array.shape)).encode()
            if wish.shared is not None:
                heads.append(self._share(wish, wish.shared, dtype, array, last))
                # No parameters: Triton's C++ client takes any for the description of binary data behind the JSON.
                text.append(b"%b%b]}" % (start, shape))
            elif wish.binary:
                data = tensors.to_raw(dtype, array)
                binary.append(data)
                text.append(b'%b%b],"parameters":{"binary_data_size":%d}}' % (start, shape, len(data)))
            else:
                text.append(b'%b%b],"data":%b}' % (start, shape, tensors.to_json(wish.name, dtype, array)))
        array_text = b"[" + b",".join(text) + b"]"
        parts = [array_text, *binary, *last]
        return heads, len(array_text), parts, sum(map(len, parts))
