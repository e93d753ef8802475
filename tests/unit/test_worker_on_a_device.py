"""What a device's worker does beside one of a model's own: runs are filled up with rows whose answers nobody gets. A
real session in this process, on the CPU, and real frames."""

import mmap
import socket
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import onnx
import pytest
from onnx import parser

from appliance.core.errors import RefusedError
from appliance.core.frames import Answer, Encoding, Invoke, Kind, TensorHead, decode_answer
from appliance.core.manifest import parse_manifest
from appliance.core.vectors import Bound, Vector, Vectors, VectorTensor
from appliance.workers.batching import Form
from appliance.workers.devices import CPU
from appliance.workers.spec import WorkerSpec
from appliance.workers.steady_rows import SteadyRows
from appliance.workers.stream import FrameStream
from appliance.workers.text_session import Model
from appliance.workers.vector_check import check_vectors
from appliance.workers.worker import Worker
from tests.process.models import doubling, table
from tests.text_models import TEXT, model, tokenizer

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


class AlwaysFour:
    """Fills up to four rows, whatever that costs here."""

    @staticmethod
    def rows(_form: Form, wanted: int) -> int:
        return max(4, wanted)

    @staticmethod
    def ran(_form: Form, _rows: int, _wanted: int, _run_s: float) -> bool:
        return True


class Device:
    """One model in a device's worker: call() with the rows of one input, or of several callers at once."""

    def __init__(self, folder: Path, manifest: str = "", *, tf32: bool = False) -> None:
        self._ours, theirs = socket.socketpair()
        self._theirs = theirs
        self._ours.settimeout(10)
        spec = WorkerSpec(1, "serve", str(folder), parse_manifest(manifest), 1, 64, (CPU,), 0, tf32=tf32)
        self.worker = Worker(spec, theirs, mmap.mmap(-1, 4096), [(CPU, {})], device_fault=lambda: "")
        loaded = self.worker.load()
        assert not loaded.error, loaded.error
        self._session: Model = self.worker._session
        self.signature = self._session.signature
        self.ran: list[int] = []
        self.worker._session = self  # type: ignore[assignment]
        self._stream = FrameStream(self._ours)
        self.last: Answer | None = None

    def run(self, inputs: dict[str, Any]) -> list[Any]:
        """In the session's place: notes how many rows are run."""
        self.ran.append(len(next(iter(inputs.values()))))
        return self._session.run(inputs)

    def call(self, *calls: Any, **about: Any) -> list[Any]:
        """The answers' first outputs, or None for a failure, in the callers' order."""
        for number, rows in enumerate(calls):
            raw = rows.tobytes()
            name = self.worker._signature.inputs[0].name
            head = TensorHead(
                name, {"i": "INT64", "f": "FP32"}[rows.dtype.kind], list(rows.shape), Encoding.RAW, len(raw)
            )
            self.worker.accept(Invoke(number, 0, [head], **about), memoryview(raw))
        while self.worker.waiting:
            self.worker.run_next()
        frames: list[Any] = []
        while len(frames) < len(calls):
            frames += self._stream.read(wait=True)
        answers: dict[int, Any] = {}
        for frame in frames:
            if frame.kind == Kind.ANSWER:
                self.last = decode_answer(frame.head)
                first = self.last.tensors[0]
                dtype = {"INT64": np.int64, "FP32": np.float32}[first.dtype]
                count = int(np.prod(first.shape))
                answers[self.last.call] = np.frombuffer(frame.body, dtype, count).reshape(first.shape).tolist()
        return [answers.get(number) for number in range(len(calls))]

    def fill_up(self) -> None:
        self.worker._steady = cast(SteadyRows, AlwaysFour())

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def on_table(folder: Path) -> Iterator[Device]:
    """table(): fails for a row beyond 5."""
    table(folder / "model.onnx")
    device = Device(folder)
    yield device
    device.close()


def rows(*numbers: int) -> Any:
    return np.array(numbers, np.int64)


def answer(*numbers: int) -> list[list[float]]:
    return [[10.0 * number, 10.0 * number + 1] for number in numbers]


def test_a_row_that_failed_fills_up_nobodys_run(on_table: Device) -> None:
    on_table.fill_up()
    assert on_table.call(rows(1, 2, 3)) == [answer(1, 2, 3)]
    assert on_table.call(rows(99, 99, 99)) == [None]
    assert on_table.call(rows(4)) == [answer(4)]
    # The bad one once more as it is.
    assert on_table.ran == [4, 4, 3, 4]


def test_of_calls_that_ran_together_the_bad_one_fails_alone_and_the_next_run_is_filled_up_as_before(
    on_table: Device,
) -> None:
    on_table.fill_up()
    assert on_table.call(rows(1), rows(99), rows(3)) == [answer(1), None, answer(3)]
    assert on_table.call(rows(5)) == [answer(5)]
    # Together, the three one by one, the bad one once more as it is, and the next.
    assert on_table.ran == [4, 4, 4, 1, 4, 4]


def test_a_model_that_fails_on_rows_for_nobody_is_given_none_any_more(folder: Path) -> None:
    # Where the sum of all rows is above 399. A trial of made-up rows does not see it.
    zeros = ", ".join("0" for _ in range(400))
    graph = f"""g (int64[N] x) => (int64[N] y) <int64[400] zeros = {{{zeros}}}>
{{total = ReduceSum(x)
none = Gather(zeros, total)
y = Add(x, none)}}"""
    onnx.save(parser.parse_model(HEAD + graph), folder / "model.onnx")
    device = Device(folder)
    device.fill_up()
    assert device.call(rows(1, 2, 3)) == [[1, 2, 3]]
    assert device.call(rows(399)) == [[399]]
    assert device.call(rows(398)) == [[398]]
    assert device.ran == [4, 4, 1, 1]
    device.close()


def test_the_state_of_a_run_that_was_filled_up_holds_no_more_than_its_own_rows(folder: Path) -> None:
    graph = "g (float[N, 2] x, float[N, 2] before) => (float[N, 2] y, float[N, 2] after)\n"
    graph += "{y = Add(x, before)\nafter = Identity(y)}"
    onnx.save(parser.parse_model(HEAD + graph), folder / "model.onnx")
    device = Device(folder, '[[state]]\ninput = "before"\noutput = "after"\n')
    one = np.ones((1, 2), np.float32)
    device.fill_up()
    assert device.call(one, sequence=7, sequence_start=True) == [[[1.0, 1.0]]]
    assert device.ran[-1] == 4
    assert device.worker._states is not None
    assert device.worker._states._kept[7]["before"].base is None
    assert device.call(one, sequence=7) == [[[2.0, 2.0]]]
    device.close()


def test_runs_of_texts_are_not_filled_up(folder: Path) -> None:
    onnx.save(model(), folder / "model.onnx")
    (folder / "tokenizer.json").write_text(tokenizer().to_str())
    device = Device(folder, TEXT)
    assert device.worker._steady is None
    device.close()


def test_an_answer_says_whether_its_run_changed_shapes(on_table: Device) -> None:
    changed = []
    for call in (rows(0), rows(1), rows(1, 2, 3), rows(4), rows(2, 2, 2, 2)):
        on_table.call(call)
        assert on_table.last is not None
        changed.append(on_table.last.changed)
    assert changed == [True, False, True, False, False]


def test_test_vectors_bind_tf32_as_they_would_fp16(folder: Path) -> None:
    doubling(folder / "model.onnx")
    (folder / "vectors").mkdir()
    x = VectorTensor("x", "FP32", (1, 2), np.ones((1, 2), "<f4").tobytes())
    for answer, holds in ((2.0, True), (2.015, True), (2.05, False)):
        y = VectorTensor("y", "FP32", (1, 2), np.full((1, 2), answer, "<f4").tobytes())
        vectors = Vectors((Vector((x,), (y,)),), bounds={"y": Bound(absolute=1e-5, relative=1e-4)})
        (folder / "vectors" / "parity.json").write_bytes(msgspec.json.encode(vectors))
        for tf32 in (False, True):
            device = Device(folder, tf32=tf32)
            with nullcontext() if holds and (tf32 or answer == 2.0) else pytest.raises(RefusedError, match="differs"):
                device.worker.check_vectors()
            device.close()


def test_no_more_test_vectors_are_asked_than_there_is_time_for(folder: Path) -> None:
    doubling(folder / "model.onnx")
    (folder / "vectors").mkdir()
    x, y = (
        VectorTensor(name, "FP32", (1, 2), np.full((1, 2), size, "<f4").tobytes())
        for name, size in (("x", 1.0), ("y", 2.0))
    )
    (folder / "vectors" / "parity.json").write_bytes(msgspec.json.encode(Vectors((Vector((x,), (y,)),) * 3)))
    device = Device(folder)
    assert check_vectors(folder, cast(Model, device)) == 3
    assert check_vectors(folder, cast(Model, device), most_s=0.0) == 1
    assert device.ran == [1, 1, 1, 1]
    device.close()
