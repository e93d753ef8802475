"""The benchmarks measure what they say: fixed models, baselines that answer right, load that notices a fault."""

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="the benchmarks' models are made with onnx")

from benchmarks.calls import call_of
from benchmarks.grpc_load import grpc_load
from benchmarks.http_load import http_load
from benchmarks.measured import LoadError, Measured, Ratio, interleave
from benchmarks.models import BenchmarkModel, convnet, mlp, tiny
from benchmarks.processes import bare_server, bare_session

_BRIEF_S = 0.05


@pytest.mark.parametrize("model", [tiny, mlp, convnet], ids=lambda model: model.name)
def test_a_model_is_the_same_bytes_each_time(model: BenchmarkModel, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    assert model.write(tmp_path).read_bytes() == model.write(tmp_path / "again").read_bytes()


@pytest.mark.parametrize("model", [tiny, mlp, convnet], ids=lambda model: model.name)
def test_a_model_answers_each_row_alone_as_in_a_batch(model: BenchmarkModel, tmp_path: Path) -> None:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model.write(tmp_path), providers=["CPUExecutionProvider"])
    rows = model.rows(3)
    together = session.run(None, {"x": rows})[0]
    alone = np.concatenate([session.run(None, {"x": rows[i : i + 1]})[0] for i in range(3)])
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-6)


def test_models_are_of_the_sizes_that_the_goals_speak_of() -> None:
    assert tiny.row_shape == (4,)
    assert 0.9e6 <= mlp.flops <= 1.1e6
    assert 200e6 <= convnet.flops <= 300e6  # 100 to 300 also if a multiply-add counts as one
    assert convnet.row_shape == (3, 224, 224)


def test_bare_http_answers_json_and_binary_as_the_session_does(tmp_path: Path) -> None:
    model = tiny.write(tmp_path)
    call = call_of(tiny, model)
    with bare_server("bare_http", model, tmp_path) as address:
        for request, check in (
            (call.json_request(address), call.check_json),
            (call.binary_request(address), call.check_binary),
        ):
            assert http_load(address, request, check, concurrency=2, seconds=_BRIEF_S).calls_per_s > 0


def test_bare_grpc_answers_as_the_session_does(tmp_path: Path) -> None:
    model = tiny.write(tmp_path)
    call = call_of(tiny, model)
    with bare_server("bare_grpc", model, tmp_path) as address:
        got = grpc_load(address, call.grpc_message(), call.check_grpc, concurrency=5, seconds=_BRIEF_S)
    assert got.calls_per_s > 0


def test_bare_session_says_calls_and_percentiles(tmp_path: Path) -> None:
    figures = Measured(**bare_session(tiny.write(tmp_path), _BRIEF_S))
    assert figures.calls_per_s > 0
    assert 0 < figures.p50_s <= figures.p99_s


def test_a_wrong_answer_voids_the_round(tmp_path: Path) -> None:
    model = tiny.write(tmp_path)
    call = call_of(tiny, model)

    def refuse(_: bytes) -> None:
        raise ValueError("not what was expected")

    with bare_server("bare_http", model, tmp_path) as address, pytest.raises(LoadError, match="not what was expected"):
        http_load(address, call.json_request(address), refuse, concurrency=1, seconds=_BRIEF_S)
    with bare_server("bare_grpc", model, tmp_path) as address, pytest.raises(LoadError, match="not what was expected"):
        grpc_load(address, call.grpc_message(), refuse, concurrency=1, seconds=_BRIEF_S)


def test_an_error_of_the_server_voids_the_round(tmp_path: Path) -> None:
    model = tiny.write(tmp_path)
    unknown = call_of(tiny, model, "unknown")
    with bare_server("bare_http", model, tmp_path) as address, pytest.raises(LoadError, match="404"):
        http_load(address, unknown.json_request(address), unknown.check_json, concurrency=1, seconds=_BRIEF_S)
    with bare_server("bare_grpc", model, tmp_path) as address, pytest.raises(LoadError, match="no message"):
        grpc_load(address, b"", unknown.check_grpc, concurrency=1, seconds=_BRIEF_S, path="/no.Such/Method")


def test_turns_alternate_so_that_drift_hits_all_alike() -> None:
    order: list[str] = []

    def turn_of(name: str) -> Callable[[], Measured]:
        def turn() -> Measured:
            order.append(name)
            return Measured(1.0, 1.0, 1.0)

        return turn

    interleave({"a": turn_of("a"), "b": turn_of("b")}, rounds=3)
    assert "".join(order) == "abbaab"


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    ratio = Ratio.of([2.0, 9.0, 3.0], [1.0, 3.0, 3.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 1.0, 3.0)
