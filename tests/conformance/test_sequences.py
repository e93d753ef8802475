"""Sequences over tritonclient: the state stays with the node, with one worker and one version, and its loss is told."""

import asyncio
import os
import queue
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from served import bundle, deploy, make_key, onnx_bytes
from tritonclient.utils import InferenceServerException

from tests.conftest import RunningNode

# Adds up what it is given, times a factor that tells versions apart.
SUM = """g (float[N,2] x, float[N,2] state) => (float[N,2] y, float[N,2] stateN) <float[1] by = {%d}>
{step = Mul(x, by) \n y = Add(step, state) \n stateN = Identity(y)}"""
MANIFEST = '[[state]]\ninput = "state"\noutput = "stateN"\n'

Step = Callable[..., Any]


def summing(factor: int = 1, manifest: str = "") -> bytes:
    return bundle(onnx_bytes(SUM % factor), manifest_toml=MANIFEST + manifest)


@pytest.fixture(scope="module", autouse=True)
def models(node: RunningNode) -> None:
    deploy(node, "seq/sum", summing())


class Caller:
    """One of tritonclient's clients, and steps of sequences through it."""

    def __init__(self, node: RunningNode, kind: str) -> None:
        self.name = kind.partition(".")[0]
        self.kind = kind
        self.module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[self.name]
        self.address = getattr(node, self.name)
        self.key = {"authorization": f"Bearer {node.admin_key}"}

    def asked(self, model: str, value: float, sequence: int | str, marks: str, **more: Any) -> dict[str, Any]:
        given = self.module.InferInput("x", [1, 2], "FP32")
        given.set_data_from_numpy(np.full((1, 2), value, np.float32))
        how = {"sequence_id": sequence, "sequence_start": "(" in marks, "sequence_end": ")" in marks}
        return {"model_name": model, "inputs": [given], "headers": self.key, **how, **more}

    def step(self, value: float, sequence: int | str, marks: str = "", model: str = "seq/sum", **more: Any) -> float:
        """The sum after this step. `marks`: `(` starts the sequence, `)` ends it."""
        how = self.asked(model, value, sequence, marks, **more)
        if self.kind == self.name:
            with self.module.InferenceServerClient(self.address) as client:
                return self._sum(client.infer(**how))

        async def call() -> float:
            async with self.module.aio.InferenceServerClient(self.address) as client:
                return self._sum(await client.infer(**how))

        return asyncio.run(call())

    @staticmethod
    def _sum(result: Any) -> float:
        response = result.get_response()
        outputs = response["outputs"] if isinstance(response, dict) else response.outputs
        names = [output["name"] if isinstance(output, dict) else output.name for output in outputs]
        assert names == ["y"]  # the state is the node's own business
        return float(result.as_numpy("y")[0, 0])


@pytest.fixture(params=["http", "http.aio", "grpc", "grpc.aio"])
def caller(request: Any, node: RunningNode) -> Caller:
    return Caller(node, request.param)


def test_a_state_is_kept_from_call_to_call_and_for_each_sequence_its_own(caller: Caller) -> None:
    number, text = 7, f"text-{caller.kind}"
    assert caller.step(1, number, "(") == 1
    assert caller.step(10, text, "(") == 10
    assert caller.step(2, number) == 3
    assert caller.step(20, text) == 30
    assert caller.step(4, number, ")") == 7
    assert caller.step(40, text, ")") == 70


def test_without_a_sequence_each_call_begins_from_nothing(caller: Caller) -> None:
    assert caller.step(5, 0) == 5
    assert caller.step(5, 0) == 5


def test_a_start_begins_anew_and_an_end_is_the_end(caller: Caller) -> None:
    assert caller.step(1, 8, "(") == 1
    assert caller.step(2, 8, "(") == 2
    assert caller.step(3, 8, ")") == 5
    with pytest.raises(InferenceServerException, match="no sequence 8 of seq/sum is under way"):
        caller.step(4, 8)
    assert caller.step(4, 8, "()") == 4
    with pytest.raises(InferenceServerException, match="no sequence 8"):
        caller.step(4, 8)


def test_a_wrong_call_costs_itself_and_not_the_sequence(caller: Caller) -> None:
    assert caller.step(1, 9, "(") == 1
    wrong = caller.module.InferInput("x", [1, 3], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 3), np.float32))
    with pytest.raises(InferenceServerException, match="shape"):
        caller.step(1, 9, inputs=[wrong])
    state = caller.module.InferInput("state", [1, 2], "FP32")
    state.set_data_from_numpy(np.zeros((1, 2), np.float32))
    with pytest.raises(InferenceServerException, match="a sequence keeps: leave it out"):
        caller.step(1, 9, inputs=[*caller.asked("", 1, 0, "")["inputs"], state])
    assert caller.step(1, 9, ")") == 2


def test_another_key_has_sequences_of_its_own(node: RunningNode, caller: Caller) -> None:
    other = {"authorization": f"Bearer {make_key(node, 'call')}"}
    assert caller.step(1, 10, "(") == 1
    with pytest.raises(InferenceServerException, match="no sequence 10"):
        caller.step(1, 10, headers=other)
    assert caller.step(5, 10, "(", headers=other) == 5
    assert caller.step(1, 10, ")") == 2


def test_a_stream_runs_many_sequences_each_in_its_order(node: RunningNode) -> None:
    caller, answers = Caller(node, "grpc"), queue.SimpleQueue[Any]()
    with tritonclient.grpc.InferenceServerClient(node.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)), headers=caller.key)
        for turn in range(20):
            for sequence in range(1, 9):
                marks = "(" * (turn == 0) + ")" * (turn == 19)
                how = caller.asked("seq/sum", sequence, sequence, marks, request_id=f"{turn}-{sequence}")
                del how["headers"]
                client.async_stream_infer(**how)
        for turn in range(20):
            for sequence in range(1, 9):
                result, error = answers.get(timeout=60)
                assert error is None, error
                assert result.get_response().id == f"{turn}-{sequence}"
                assert result.as_numpy("y")[0, 0] == sequence * (turn + 1)


def test_metadata_show_what_callers_deal_with(node: RunningNode) -> None:
    with tritonclient.http.InferenceServerClient(node.http) as client:
        key = {"Authorization": f"Bearer {node.admin_key}"}
        metadata = client.get_model_metadata("seq/sum", headers=key)
        assert [one["name"] for one in metadata["inputs"]] == ["x"]
        assert [one["name"] for one in metadata["outputs"]] == ["y"]
        assert "sequence" in client.get_server_metadata(headers=key)["extensions"]
    plain = requests.post(f"{node.url}/v1/models/seq/sum", json=[1, 2], headers=node.headers, timeout=60).json()
    assert plain["outputs"] == {"y": [[1.0, 2.0]]}


def test_an_output_that_is_state_is_given_where_it_is_asked_for(node: RunningNode) -> None:
    caller = Caller(node, "http")
    how = caller.asked("seq/sum", 3, 0, "", outputs=[tritonclient.http.InferRequestedOutput("stateN")])
    state = tritonclient.http.InferInput("state", [1, 2], "FP32")
    state.set_data_from_numpy(np.full((1, 2), 100, np.float32))
    how["inputs"].append(state)
    with tritonclient.http.InferenceServerClient(node.http) as client:
        assert client.infer(**how).as_numpy("stateN").tolist() == [[103, 103]]


def test_a_sequence_stays_with_its_version_while_the_alias_moves(node: RunningNode) -> None:
    deploy(node, "seq/moving", summing(1))
    caller = Caller(node, "grpc")
    assert caller.step(1, 11, "(", "seq/moving") == 1
    deploy(node, "seq/moving", summing(100))
    assert caller.step(2, 11, "", "seq/moving") == 3
    assert caller.step(2, 12, "(", "seq/moving") == 200
    assert caller.step(4, 11, ")", "seq/moving") == 7
    assert caller.step(1, 11, "()", "seq/moving") == 100


def worker_of(node: RunningNode, model: str) -> int:
    told = requests.get(f"{node.url}/v1/models/{model}", headers=node.headers, timeout=60).json()
    return int(told["workers"][0]["pid"])


@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_a_sequence_whose_worker_was_lost_is_told_so_until_it_begins_anew(node: RunningNode, kind: str) -> None:
    deploy(node, f"seq/lost-{kind}", summing())
    caller, model = Caller(node, kind), f"seq/lost-{kind}"
    assert caller.step(1, 7, "(", model) == 1
    os.kill(worker_of(node, model), signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="the sequence 7 was lost with its worker: start it") as told:
            caller.step(1, 7, "", model)
        assert told.value.status() in ("410", "StatusCode.ABORTED")
    assert caller.step(5, 7, "(", model) == 5
    assert caller.step(5, 7, ")", model) == 10


def test_sequences_are_bounded_in_number_and_in_idle_time(node: RunningNode) -> None:
    deploy(node, "seq/few", summing(1, "[limits]\nsequences = 2\nsequence_idle_s = 0.3\n"))
    caller = Caller(node, "http")
    caller.step(1, 1, "(", "seq/few")
    caller.step(1, 2, "(", "seq/few")
    with pytest.raises(InferenceServerException, match="2 sequences of this model are under way"):
        caller.step(1, 3, "(", "seq/few")
    caller.step(1, 1, ")", "seq/few")
    caller.step(1, 3, "(", "seq/few")
    for sequence in (4, 5):  # when both have begun, both of those before are gone

        def begins(sequence: int = sequence) -> bool:
            try:
                return caller.step(1, sequence, "(", "seq/few") == 1
            except InferenceServerException:
                return False

        while not begins():
            pass
    with pytest.raises(InferenceServerException, match=r"the sequence 3 was dropped after 0.3 s without a call"):
        caller.step(1, 3, "", "seq/few")


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ('[[state]]\ninput = "none"\noutput = "stateN"', "feeds output 'stateN' back as input 'none'"),
        ('[[state]]\ninput = "state"\noutput = "none"', "feeds output 'none'"),
        ('[[state]]\ninput = "state"', "output"),
        (MANIFEST + MANIFEST, "feeds output"),
        (MANIFEST + '[[state]]\ninput = "x"\noutput = "y"', "every input of the model is declared as its state"),
        (MANIFEST + "shape = [1, 3]", "cannot begin as zeros of shape"),
        (MANIFEST + "shape = [99999999, 2]", "cannot begin as zeros of shape"),
        (MANIFEST + "shape = [-1, 2]", "cannot begin"),
        (MANIFEST + "[limits]\nsequences = -1", "must not be negative"),
    ],
)
def test_a_state_that_cannot_be_is_refused_at_deploy(node: RunningNode, manifest: str, words: str) -> None:
    upload = bundle(onnx_bytes(SUM % 1), manifest_toml=manifest)
    answer = requests.put(f"{node.url}/v1/models/seq/wrong", upload, headers=node.headers, timeout=60)
    assert answer.status_code in (400, 422), answer.text
    assert words in answer.json()["error"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"sequence_id": -1},
        {"sequence_id": 1.5},
        {"sequence_id": "x" * 257},
        {"sequence_id": [1]},
        {"sequence_id": 2**64},
        {"sequence_id": 1, "sequence_start": "yes"},
    ],
)
def test_parameters_that_are_no_sequence_are_refused(node: RunningNode, parameters: dict[str, Any]) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}
    body = {"inputs": [tensor], "parameters": parameters}
    answer = requests.post(f"{node.url}/v2/models/seq/sum/infer", json=body, headers=node.headers, timeout=60)
    assert answer.status_code == 400
    assert "sequence_" in answer.json()["error"]
