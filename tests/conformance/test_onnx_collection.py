"""A large collection of small models answers through the node as in bare onnxruntime, by every way to call.

The suite takes a fixed choice of the collection; with INGLE_CONFORMANCE=whole, as `make conformance` says, all of it.
"""

import io
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from bare_onnxruntime import DTYPES, BareModel, CannotOpenError, CannotRunError, difference
from graphs import graph
from onnx_collection import Case, gather, spread
from own_models import own_cases
from unbatchable_models import rows_dependent, rows_independent
from v2_callers import Callers, Given, InferenceServerException, fits_json

WHOLE = os.environ.get("INGLE_CONFORMANCE") == "whole"
SHARDS = 8
OWN = own_cases()
DEPENDENT = rows_dependent()
INDEPENDENT = rows_independent()


@pytest.fixture(scope="module")
def collection() -> list[Case]:
    cases = gather(whole=WHOLE)
    return cases if WHOLE else spread(cases)


@pytest.fixture(scope="module")
def callers(node: Any) -> Iterator["CallersByThread"]:
    made = CallersByThread(node)
    yield made
    made.close()


class CallersByThread:
    """One set of clients for each thread: the HTTP client may not be shared."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._local = threading.local()
        self._made: list[Callers] = []

    def get(self) -> Callers:
        if not hasattr(self._local, "callers"):
            self._local.callers = Callers(self._node.http, self._node.grpc, self._node.zmq, self._node.admin_key)
            self._made.append(self._local.callers)
        callers: Callers = self._local.callers
        return callers

    def close(self) -> None:
        for callers in self._made:
            callers.close()


def test_the_collection_is_large_and_has_every_dtype_in_and_out() -> None:
    cases = gather(whole=False)
    taken, given, answered = set(), set(), 0
    for case in cases:
        try:
            bare = BareModel(case.model)
        except CannotOpenError:
            continue
        if bare.expressible:
            answered += 1
            taken |= {declared.dtype for declared in bare.inputs}
            given |= {declared.dtype for declared in bare.outputs}
    assert answered > 1000
    assert taken == given == set(DTYPES.values())


@pytest.mark.parametrize("shard", range(SHARDS))
def test_collected_models_answer_as_in_bare_onnxruntime(
    shard: int, collection: list[Case], callers: CallersByThread
) -> None:
    with ThreadPoolExecutor(2) as pool:
        faults = list(pool.map(lambda case: faults_of(case, callers.get()), collection[shard::SHARDS]))
    wrong = [fault for found in faults for fault in found]
    assert not wrong, "\n".join([f"{len(wrong)} faults", *wrong])


@pytest.mark.parametrize("case", OWN, ids=lambda case: case.name)
def test_our_own_odd_models_answer_as_in_bare_onnxruntime(case: Case, callers: CallersByThread) -> None:
    faults = faults_of(case, callers.get())
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("case", DEPENDENT, ids=lambda case: case.name)
def test_calls_at_once_do_not_mix_where_rows_depend_on_each_other(case: Case, callers: CallersByThread) -> None:
    faults, _ = faults_at_once(case, callers.get())
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("case", INDEPENDENT, ids=lambda case: case.name)
def test_calls_at_once_share_runs_where_rows_are_independent(case: Case, callers: CallersByThread) -> None:
    faults, shared = faults_at_once(case, callers.get(), until_shared=True)
    assert not faults, "\n".join(faults)
    assert shared, "no calls ever shared a run, so this module did not try what batching does"


def test_a_call_that_the_model_fails_on_does_not_harm_those_that_ran_with_it(callers: CallersByThread) -> None:
    table = "<float[6,2] t = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}>"
    case = graph("some-fail", f"g (int64[N] i) => (float[N,2] y) {table} {{y = Gather(t, i)}}")
    feeds = [{"i": np.array([number % 6, 9 if number % 4 == 3 else 5])} for number in range(16)]
    client, bare = callers.get(), BareModel(case.model)
    assert client.deploy("col/some-fail", case.model).status == 201
    for number, answer in enumerate(client.at_once("col/some-fail", feeds, bare.inputs)):
        if number % 4 == 3:
            assert isinstance(answer, InferenceServerException), "it asked for a row that is not there"
        else:
            assert not isinstance(answer, InferenceServerException), answer
            assert _differences(bare.run(feeds[number]), answer) == []
    client.delete("col/some-fail")


def test_outputs_come_as_they_are_asked_for(callers: CallersByThread) -> None:
    case = graph(
        "three", "g (float[N] x) => (float[N] a, float[N] b, float[N] c) {a = Neg(x) \n b = Abs(x) \n c = Exp(x)}"
    )
    client, bare = callers.get(), BareModel(case.model)
    assert client.deploy("col/three", case.model).status == 201
    for names in (["c"], ["b", "a"], ["c", "a", "b"]):
        assert client.some_outputs("col/three", {"x": np.ones(2, np.float32)}, bare.inputs, names) == names
    client.delete("col/three")


def faults_of(case: Case, callers: Callers) -> list[str]:
    """Deploys a case, calls it by each way, deletes it; every difference from bare onnxruntime as a sentence."""
    name = f"col/{case.name}"
    try:
        bare = BareModel(case.model)
    except CannotOpenError:
        return _faults_of_refusal(name, case, callers, "onnxruntime does not open")
    if not bare.expressible:
        return _faults_of_refusal(name, case, callers, "V2 has no tensors for")
    deployed = callers.deploy(name, case.model)
    if deployed.status not in (200, 201):
        if deployed.status == 422 and not any(_runs(bare, feed) for feed in case.feeds):
            return []
        return [f"{name}: not taken: {deployed.status} {deployed.sentence}"]
    try:
        faults = _faults_of_metadata(bare, callers.metadata(name))
        for number, feed in enumerate(case.feeds):
            faults += [f"feed {number}: {fault}" for fault in _faults_of_calls(name, bare, feed, callers)]
        return [f"{name}: {fault}" for fault in faults]
    finally:
        callers.delete(name)


def _runs(bare: BareModel, feed: dict[str, Any]) -> bool:
    try:
        bare.run(feed)
    except CannotRunError:
        return False
    return True


def _faults_of_refusal(name: str, case: Case, callers: Callers, why: str) -> list[str]:
    answer = callers.deploy(name, case.model)
    if answer.status in (200, 201):
        callers.delete(name)
        return [f"{name}: {why} this model, but it was taken"]
    if answer.status != 422 or " " not in answer.sentence or answer.body.get("code") != "refused":
        return [f"{name}: {why} this model; expected 422 and a sentence: {answer.status} {answer.body}"]
    if callers.request("GET", f"/v1/models/{name}").status != 404:
        return [f"{name}: was refused, but something of it is there"]
    return []


def _faults_of_metadata(bare: BareModel, metadata: dict[str, Any]) -> list[str]:
    faults = []
    # Clients send all inputs that metadata lists, so what may be left out is not among them.
    required = [one for one in bare.inputs if not one.optional]
    for what, real in (("inputs", required), ("outputs", bare.outputs)):
        expected = [{"name": one.name, "datatype": one.dtype, "shape": list(one.shape)} for one in real]
        told = [{key: one[key] for key in ("name", "datatype", "shape")} for one in metadata[what]]
        if told != expected:
            faults.append(f"the metadata's {what} are {told} and not {expected}")
    return faults


def _faults_of_calls(name: str, bare: BareModel, feed: dict[str, Any], callers: Callers) -> list[str]:
    ways: dict[str, Callable[[], list[Given]]] = {
        "HTTP binary": lambda: callers.binary(name, feed, bare.inputs),
        "gRPC": lambda: callers.grpc(name, feed, bare.inputs),
        "ZeroMQ": lambda: callers.zeromq(name, feed, bare.inputs),
    }
    try:
        truth = bare.run(feed)
    except CannotRunError:
        return [fault for way, call in ways.items() if (fault := _fault_of_failure(way, call))]
    random = bare.is_random(feed)
    plain = {answer.name: not random and fits_json(answer.dtype, answer.array) for answer in truth}
    if len(plain) == len(truth):  # an output named twice cannot be asked for by name
        ways["HTTP JSON"] = lambda: callers.json(name, feed, bare.inputs, plain)
    faults = []
    for way, call in ways.items():
        try:
            given = call()
        except (InferenceServerException, OSError) as error:
            faults.append(f"{way}: {error!r}")
        else:
            faults += [f"{way}: {fault}" for fault in _differences(truth, given, shape_only=random)]
    return faults


def _fault_of_failure(way: str, call: Callable[[], list[Given]]) -> str:
    try:
        call()
    except InferenceServerException as error:
        return "" if error.message() and " " in error.message() else f"{way}: the error is no sentence: {error}"
    return f"{way}: bare onnxruntime fails on this input, but the node answers"


def _differences(truth: list[Any], given: list[Given], *, shape_only: bool = False) -> list[str]:
    if [one.name for one in truth] != [one.name for one in given]:
        return [f"the outputs are {[one.name for one in given]} and not {[one.name for one in truth]}"]
    found = (
        difference(one, other.dtype, other.array, shape_only=shape_only)
        for one, other in zip(truth, given, strict=True)
    )
    return [words for words in found if words]


def _allowing_batches(model: bytes) -> bytes:
    """A bundle of the model whose manifest sets a batch limit."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as bundle:
        bundle.writestr("model.onnx", model)
        bundle.writestr("manifest.toml", "[limits]\nbatch = 64\n")
    return content.getvalue()


def faults_at_once(case: Case, callers: Callers, *, until_shared: bool = False) -> tuple[list[str], bool]:
    """Sends all feeds at once, several times; the differences, and whether some calls shared a run.

    `until_shared` goes on, within bounds, until that was so: what arrives together is the machine's choice.
    """
    name = f"col/{case.name}"
    bare = BareModel(case.model)
    # The controls loop to take their time, and a graph that loops shares runs only where its owner says so.
    deployed = callers.deploy(name, _allowing_batches(case.model) if until_shared else case.model)
    assert deployed.status in (200, 201), deployed.body
    truths = [bare.run(feed) for feed in case.feeds]
    # The same calls several times over, so that some wait while others run.
    feeds, faults, shared = [*case.feeds] * 2, [], False
    try:
        for _ in range(30 if until_shared else 2):
            answers = callers.at_once(name, feeds, bare.inputs)
            for number, given in enumerate(answers):
                if isinstance(given, InferenceServerException):
                    raise given
                which = number % len(truths)
                faults += [f"feed {which}: {fault}" for fault in _differences(truths[which], given)]
            calls, executions = callers.executions(name)
            shared = executions < calls
            if faults or (shared and until_shared):
                break
    except InferenceServerException as error:
        faults.append(f"a call failed that bare onnxruntime answers: {error}")
    finally:
        callers.delete(name)
    return faults, shared


def test_answers_of_all_sizes_are_the_rows_that_were_sent(callers: CallersByThread) -> None:
    """Large ones lie in memory that the worker shares with the gateway, once it is known that they are large."""
    body = r"{y = Neg(x) first = ReduceMax(x, a)}"
    case = graph("wide", f"g (float[N,1000] x) => (float[N,1000] y, float[N,1] first) <int64[1] a = {{1}}> {body}")
    client, bare = callers.get(), BareModel(case.model)
    assert client.deploy("col/wide", case.model).status == 201
    sizes = [1, 40, 40, 500, 3, 40, 500, 1, 7, 9, 2, 40, 8]
    feeds = [{"x": np.full((size, 1000), number, np.float32)} for number, size in enumerate(sizes)]
    for _ in range(2):
        for feed, answer in zip(feeds, client.at_once("col/wide", feeds, bare.inputs), strict=True):
            assert not isinstance(answer, InferenceServerException), answer
            assert _differences(bare.run(feed), answer) == []
    client.delete("col/wide")
