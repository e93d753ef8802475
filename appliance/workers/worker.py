"""A worker process: opens one model and answers its calls over a Unix socket, one batch after another.

A plain synchronous loop with no asyncio: read what has arrived, run the greedy batch, answer, read again. It runs in
the sandbox the zygote made, and leaves by os._exit, since onnxruntime's destructors owe nobody anything.
"""

import mmap
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import IngleError, WorkerFailedError
from appliance.core.frames import (
    REGION_FROM_BYTES,
    Answer,
    Encoding,
    Failure,
    Invoke,
    Kind,
    Loaded,
    TensorHead,
    decode_invoke,
    frame_start,
)
from appliance.core.state import states_hidden
from appliance.core.tensors import Signature
from appliance.core.vectors import Bound
from appliance.workers import tensors
from appliance.workers.batch_gain import BatchGain
from appliance.workers.batching import Form, next_batch
from appliance.workers.devices import Provider
from appliance.workers.opening import open_model
from appliance.workers.outputs import OutputWriter, Written
from appliance.workers.plain.content import tensors_from_content
from appliance.workers.session import BrokenEngineError, OutOfMemoryError, SpentError
from appliance.workers.spec import WorkerSpec
from appliance.workers.states import States
from appliance.workers.steady_inputs import SteadyInputs
from appliance.workers.steady_rows import SteadyRows
from appliance.workers.stream import FrameStream
from appliance.workers.text_session import Model
from appliance.workers.vector_check import check_vectors

Array = NDArray[Any]
# An enum's member is looked up by a function of Python's: with the caches cold after a run, that shows.
_CONTENT, _JSON, _ANSWER = int(Encoding.CONTENT), int(Encoding.JSON), int(Kind.ANSWER)

# TF32 has FP16's mantissa; and so much is a model in FP16 allowed by its converter.
_TF32 = Bound(absolute=1e-3, relative=1e-2)
_VECTORS_S = 5.0  # a device's other models wait meanwhile


class Pending(NamedTuple):
    """A call that has arrived. A JSON tensor stays text until its batch is known: one parse serves many calls."""

    invoke: Invoke
    inputs: dict[str, Array | memoryview]
    form: Form | None
    rows: int
    arrived_ns: int


class Worker:
    """Serves one model on one socket until the socket closes. `providers` are those of the spec, unless given: a
    device's worker holds several of these, reads the socket itself and says which of them runs next. It also gives
    `device_fault`, which says why the device is of no more use to this process, and nothing where it is."""

    def __init__(
        self,
        spec: WorkerSpec,
        sock: socket.socket,
        region: mmap.mmap,
        providers: Sequence[str | Provider] | None = None,
        device_fault: Callable[[], str] | None = None,
    ) -> None:
        self._spec = spec
        self._providers = spec.providers if providers is None else providers
        self._device_fault = device_fault
        self._socket = sock
        self._region = memoryview(region).toreadonly()
        self._writable = memoryview(region)
        self._stream = FrameStream(sock)
        self._session: Model
        self._signature: Signature
        self._writer: OutputWriter
        self._states: States | None = None
        self._gain = BatchGain()
        self._useful_rows = spec.max_batch  # of the next run; decided once for each
        self._steady = SteadyRows(spec.max_batch) if device_fault else None
        self._gathered = SteadyInputs()
        self.waiting: list[Pending] = []
        self.spent = ""  # why this model must not take another call
        self.engine_is_broken = False  # which is why it is spent
        self.device_is_broken = False  # which is why all are

    def serve(self) -> None:
        """Says that the model is loaded, or why not, then answers calls. Returns when the gateway has gone."""
        loaded = self.load()
        self._send(frame_start(Kind.LOADED, loaded, 0))
        if loaded.error:
            return
        while True:
            if self.has_room:
                try:
                    frames = self._stream.read(wait=not self.waiting)
                except EOFError:
                    return
                for frame in frames:
                    self.accept(decode_invoke(frame.head), frame.body)
            if self.waiting:
                self.run_next()
                if self.spent:
                    print(f"the worker ends, since {self.spent}", file=sys.stderr, flush=True)
                    return

    def load(self) -> Loaded:
        """Opens the model. What to tell the gateway of that."""
        started_ns = time.perf_counter_ns()
        try:
            self._session, from_graph, fault = open_model(self._spec, self._providers)
        except OutOfMemoryError as error:
            return Loaded([], 0, error.sentence, no_memory=True)
        except IngleError as error:
            return Loaded([], 0, error.sentence)
        manifest = self._spec.manifest
        self._signature = states_hidden(self._session.signature, manifest)
        self._writer = OutputWriter(self._signature.outputs, manifest, self._writable)
        if manifest.tokenized is not None:
            self._steady = None  # what its model runs on has the texts' lengths, of which nothing is known here
        if manifest.state:
            self._states = States(manifest, self._session.signature)
        load_ns = time.perf_counter_ns() - started_ns
        return Loaded(self._session.providers, load_ns, "", from_graph, fault, pid=os.getpid())

    def check_vectors(self) -> None:
        """Has the model answer the test vectors that came with it. Raises RefusedError where it answers otherwise, and
        OutOfMemoryError or another SpentError where the session does not get through them."""
        bound = _TF32 if self._spec.tf32 else None
        check_vectors(Path(self._spec.folder), self._session, fp32_bound=bound, most_s=_VECTORS_S)

    def close(self) -> None:
        """Gives up the session, and with it all that it held; nothing may be run after that."""
        self.waiting.clear()
        del self._session

    @property
    def has_room(self) -> bool:
        """Whether more calls could join the next run. Where it has its rows already, what arrives is read later and
        together: after a long run the caches are cold, and each look at the socket is dear."""
        return not self.waiting or sum(call.rows for call in self.waiting) < self._useful_rows

    def run_next(self) -> None:
        """Runs the next batch of what waits, and answers it. `spent` says afterwards why it must be the last."""
        if self._useful_rows == 1 or len(self.waiting) == 1:
            run = [self.waiting.pop(0)]
        else:
            batch = next_batch(self.waiting, self._useful_rows)
            run = [self.waiting[index] for index in batch.run]
            self.waiting = [self.waiting[index] for index in batch.wait]
        self._send(b"".join(self._answers(run)))
        self._useful_rows = self._gain.useful_rows(self._spec.max_batch)

    def _send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def accept(self, invoke: Invoke, body: memoryview) -> None:
        """Takes a call that has arrived, or answers what is wrong with it."""
        arrived_ns = time.perf_counter_ns()
        try:
            self.waiting.append(self._pending(invoke, body, arrived_ns))
        except IngleError as error:
            self._send(_failure(invoke, error))
        except Exception as error:  # hostile content must cost its caller the call, and nobody else anything
            self._send(
                _failure(
                    invoke,
                    IngleError(f"the input could not be read: {type(error).__name__}: {error}"),
                )
            )

    def _pending(self, invoke: Invoke, body: memoryview, arrived_ns: int) -> Pending:
        position = 0
        inputs: dict[str, Array | memoryview] = {}
        form: list[tuple[str, str, tuple[int, ...]]] = []
        rows = -1
        batchable = self._spec.max_batch > 1
        shapes: list[tuple[str, str, tuple[int, ...]]] = []
        if self._states is not None:
            self._states.begin(invoke)
        for tensor in invoke.tensors:
            if tensor.offset >= 0:
                data = self._region[tensor.offset : tensor.offset + tensor.size_bytes]
            else:
                data = body[position : position + tensor.size_bytes]
                position += tensor.size_bytes
            if tensor.encoding == _CONTENT:
                arrays = tensors_from_content(
                    invoke.content_type,
                    data,
                    self._signature,
                    self._spec.manifest,
                )
                inputs.update(arrays)
                shapes.extend((name, str(array.dtype), array.shape) for name, array in arrays.items())
            else:
                inputs[tensor.name] = (
                    data
                    if tensor.encoding == _JSON
                    else tensors.from_raw(tensor.name, tensor.dtype, tensor.shape, data)
                )
                shapes.append((tensor.name, tensor.dtype, tuple(tensor.shape)))
        if self._states is not None:
            kept = self._states.inputs(invoke, inputs)
            inputs.update(kept)
            shapes.extend((name, str(array.dtype), array.shape) for name, array in kept.items())
        for name, dtype, shape in shapes:
            size = shape[0] if shape else -1
            batchable = batchable and size > 0 and rows in (-1, size)
            rows = size
            form.append((name, dtype, shape[1:]))
        form.sort()
        return Pending(invoke, inputs, tuple(form) if batchable else None, max(rows, 1), arrived_ns)

    def _answers(self, run: list[Pending], *, filled_up: bool = True) -> list[bytes | memoryview]:
        """Runs the calls together and renders each one's answer; where that fails, one by one and at last with no rows
        but its own, so that the fault falls on the call that has it."""
        form, rows = run[0].form, sum(call.rows for call in run)
        ran_rows = self._steady.rows(form, rows) if filled_up and self._steady and form else rows
        try:
            answers = self._run_together(run, rows, ran_rows)
            if not filled_up:
                self._steady = None  # rows for nobody were what it failed on
            return answers
        except SpentError as error:
            self.spent = error.sentence
            self.engine_is_broken = isinstance(error, BrokenEngineError)
            # Calls that ran together are not answered: another worker is given them one by one. Nor is one for which a
            # device has no room: the CPU may have it.
            return [] if len(run) > 1 or self._device_fault else [_failure(run[0].invoke, error)]
        except Exception as error:
            if self._device_fault and isinstance(error, WorkerFailedError) and (fault := self._device_fault()):
                self.spent, self.device_is_broken = f"it broke the device: {fault}", True
                return []
            self._gathered = SteadyInputs()  # a row that failed must not fill up another's run
            if len(run) > 1:
                return [part for call in run for part in self._answers([call])]
            if ran_rows > rows:
                return self._answers(run, filled_up=False)
            if not isinstance(error, IngleError):
                error = IngleError(f"the call failed in the worker: {type(error).__name__}: {error}")
            return [_failure(run[0].invoke, error)]

    def _run_together(self, run: list[Pending], total_rows: int, ran_rows: int) -> list[bytes | memoryview]:
        began_ns = time.perf_counter_ns()
        first, alone = run[0], len(run) == 1
        inputs = {name: self._joined(name, _arrays(run, name), total_rows, ran_rows) for name in first.inputs}
        decoded_ns = time.perf_counter_ns()
        outputs = self._session.run(inputs)
        ran_ns = time.perf_counter_ns()
        changed = self._record(first.form, ran_rows, total_rows, (ran_ns - decoded_ns) * 1e-9)
        shared = not alone or ran_rows > total_rows
        if shared:
            outputs = _own_rows(outputs, total_rows, ran_rows)
        bodies: list[Written | IngleError] = []
        start = 0
        for call in run:
            mine = outputs if alone else [output[start : start + call.rows] for output in outputs]
            start += call.rows
            if self._states is not None:
                self._states.keep(call.invoke, mine, shared=shared)
            try:
                bodies.append(self._writer.write(call.invoke, mine, batched=call.form is not None))
            except IngleError as error:
                bodies.append(error)
        encode_ns = (time.perf_counter_ns() - ran_ns) // len(run)
        frames: list[bytes | memoryview] = []
        for index, (call, body) in enumerate(zip(run, bodies, strict=True)):
            if isinstance(body, IngleError):
                frames.append(_failure(call.invoke, body))
                continue
            heads, text_size, parts, size = body
            body_at = -1
            if REGION_FROM_BYTES <= size <= call.invoke.answer_bytes:
                body_at = call.invoke.answer_at
                self._put(body_at, parts)
            head = Answer(
                call.invoke.call,
                heads,
                text_size,
                decoded_ns - began_ns,
                began_ns - call.arrived_ns,
                ran_ns - decoded_ns,
                encode_ns,
                0 if index else 1,
                total_rows,
                body_at,
                size,
                changed,
            )
            frames.append(frame_start(_ANSWER, head, size if body_at < 0 else 0))
            if body_at < 0:
                frames.extend(parts)
        return frames

    def _joined(self, name: str, arrays: list[Array], rows: int, ran_rows: int) -> Array:
        """One input of a run: the arrays' rows, and more where more are to be run."""
        if len(arrays) == 1 and rows == ran_rows:
            return arrays[0]
        if self._steady is None:
            return np.concatenate(arrays)
        return self._gathered.gathered(name, arrays, ran_rows)

    def _record(self, form: Form | None, ran_rows: int, wanted_rows: int, run_s: float) -> bool:
        """Whether the run changed its device's shapes, so that its time says little of the next."""
        if self._steady and form and not self._steady.ran(form, ran_rows, wanted_rows, run_s):
            return True
        self._gain.record(wanted_rows, run_s)
        return False

    def _put(self, start: int, parts: Sequence[bytes | memoryview]) -> None:
        """Writes an answer's body to its place in the shared region."""
        for part in parts:
            self._writable[start : start + len(part)] = part
            start += len(part)


def _arrays(run: list[Pending], name: str) -> list[Array]:
    """One input of all the calls. JSON texts of one shape are joined and parsed once."""
    if len(run) == 1:
        return [_array(run[0].invoke, name, run[0].inputs[name])]
    values = [call.inputs[name] for call in run]
    if not isinstance(values[0], np.ndarray) and len({call.rows for call in run}) == 1:
        head = _head(run[0].invoke, name)
        shape = (head.shape[0] * len(run), *head.shape[1:])
        texts: list[Any] = values
        return [tensors.from_json(name, head.dtype, shape, b"[" + b",".join(texts) + b"]")]
    return [_array(call.invoke, name, value) for call, value in zip(run, values, strict=True)]


def _own_rows(outputs: list[Array], rows: int, ran_rows: int) -> list[Array]:
    """The first rows of each. Raises IngleError where one has not as many as were run."""
    if any(not output.ndim or output.shape[0] != ran_rows for output in outputs):
        raise IngleError("the batch's outputs do not have the batch's rows")
    return outputs if rows == ran_rows else [output[:rows] for output in outputs]


def _head(invoke: Invoke, name: str) -> TensorHead:
    return next(tensor for tensor in invoke.tensors if tensor.name == name)


def _array(invoke: Invoke, name: str, value: Array | memoryview) -> Array:
    """The tensor itself; one that came as JSON is parsed here."""
    if isinstance(value, np.ndarray):
        return value
    head = _head(invoke, name)
    return tensors.from_json(name, head.dtype, head.shape, value)


def _failure(invoke: Invoke, error: IngleError) -> bytes:
    return frame_start(Kind.FAILURE, Failure(invoke.call, error.code, error.sentence[:4000]), 0)


def run_worker(spec: WorkerSpec, sock: socket.socket, region_fd: int) -> None:
    """The body of a forked worker; never returns to the zygote's loop: the caller ends the process after it."""
    size_bytes = os.fstat(region_fd).st_size
    region = mmap.mmap(region_fd, size_bytes)
    os.close(region_fd)
    Worker(spec, sock, region).serve()
