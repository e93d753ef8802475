"""A mesh of real nodes: they find each other, answer for each other, and lose no call to what befalls one of them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from benchmarks.calls import Call
from benchmarks.mesh_load import MeshLoad, evenly, plan_of
from tests.mesh.lan import Lan
from tests.mesh.meshes import WITHOUT_MEMORY, Mesh, MeshNode, answered, until
from tests.process.models import counting, doubling, table

ROW = np.array([[1.5, -2.0]], np.float32)
DOUBLED = [[3.0, -4.0]]
JSON = {"Content-Type": "application/json"}
REPLICATED = Call("replicated", ROW, ROW + ROW)
_RATE_PER_S = 100.0
_FAULT_AT_S, _ENDS_S = 1.0, 3.5
_AT_ONCE = 28
_SLOW_TURNS = 10_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return doubling(tmp_path_factory.mktemp("model") / "doubling.onnx").read_bytes()


@pytest.fixture(scope="module")
def five(namespaces: None, tmp_path_factory: pytest.TempPathFactory, model: bytes) -> Iterator[Mesh]:
    """Five that see each other; `replicated` lies on b, c and d, and is warm there. Who breaks something mends it."""
    with Lan() as lan, Mesh(lan, tmp_path_factory.mktemp("five")) as mesh:
        mesh.start("a", flags=("--open", *WITHOUT_MEMORY))
        mesh.start("b", "c", "d", "e")
        mesh.wait_all_see_all()
        mesh.nodes["b"].deploy("replicated", model, "?on=b,c,d")
        lan.host("callers")
        mend(mesh)
        yield mesh


def mend(mesh: Mesh) -> None:
    """Every node runs and is seen, and the replicas answer calls through a."""
    for node in mesh.nodes.values():
        if node.is_running:
            node.thaw()
        else:
            node.restart()
    mesh.lan.heal()
    mesh.wait_all_see_all()
    until(lambda: all(answering(mesh, f"node:{name}") == name for name in "bcd"), "the replicas answer")


def answering(mesh: Mesh, pin: str = "") -> str:
    """The name of the node that answers a call through a; empty where none does."""
    reply = mesh.nodes["a"].call("replicated", {"x": ROW.tolist()}, {"X-Ingle-Pin": pin} if pin else {})
    return reply.headers.get("x-ingle-node", "") if reply.status == 200 else ""


def answers(node: MeshNode, model: str) -> bool:
    return node.call(model, {"x": ROW.tolist()}).status == 200


def load(mesh: Mesh, *entries: MeshNode) -> MeshLoad:
    due_s = evenly(_RATE_PER_S, _ENDS_S)
    return MeshLoad(mesh.lan.hosts["callers"], plan_of([node.url for node in entries], REPLICATED, due_s))


def test_a_call_to_a_node_without_the_model_is_answered_by_one_that_has_it(five: Mesh, model: bytes) -> None:
    a, e = five.nodes["a"], five.nodes["e"]
    e.deploy("owner/only-on-e", model)
    until(lambda: a.ask("GET", "/v1/models/owner/only-on-e").status == 200, "a knows of e's model")
    answer = a.call("owner/only-on-e", {"x": ROW.tolist()})
    assert answer.status == 200, answer.body
    assert answer.json["outputs"]["y"] == DOUBLED
    assert answer.headers["x-ingle-node"] == answer.json["node"] == "e"


def test_calls_at_once_through_a_peer_get_their_own_answers_and_each_fault_its_own_call(
    five: Mesh, tmp_path: Path
) -> None:
    a, e = five.nodes["a"], five.nodes["e"]
    e.deploy("owner/table", table(tmp_path / "table.onnx").read_bytes())
    until(lambda: a.ask("GET", "/v1/models/owner/table").status == 200, "a knows of e's model")
    rows = [number % 7 for number in range(_AT_ONCE)]  # of which the last is not there
    with ExitStack() as open_ones:
        with a.host.entered():
            callers = [open_ones.enter_context(closing(Caller(a))) for _ in rows]

        def of_several() -> bool:
            """Whether a call at e had several rows by now: that is how many callers' one looks to e."""
            for caller, row in zip(callers, rows, strict=True):
                caller.ask("owner/table", row)
            for caller, row in zip(callers, rows, strict=True):
                status, values = caller.answer()
                assert (status, values) == ((400, []) if row == 6 else (200, [10.0 * row, 10.0 * row + 1])), row
            about = e.ask("GET", "/v2/models/owner%2Ftable/stats").json["model_stats"][0]
            return bool(about["inference_count"] > about["inference_stats"]["success"]["count"])

        until(of_several, "calls went to e together")


def test_a_model_that_one_node_alone_has_is_copied_where_its_callers_are_answered_sooner(
    five: Mesh, tmp_path: Path
) -> None:
    e = five.nodes["e"]
    e.deploy("owner/slow", counting(tmp_path / "slow.onnx").read_bytes())

    def on_another_node(callers: ThreadPoolExecutor) -> bool:
        answers = list(callers.map(lambda _: e.call("owner/slow", {"turns": [_SLOW_TURNS]}), range(_AT_ONCE)))
        assert [answer.body for answer in answers if answer.status != 200] == []
        return any(answer.headers["x-ingle-node"] != "e" for answer in answers)

    with ThreadPoolExecutor(_AT_ONCE) as callers:
        until(lambda: on_another_node(callers), "another node answers too", 60)
    assert e.ask("DELETE", "/v1/models/owner/slow").status in (200, 204)


class Caller:
    """One connection from the node's own host, and V2's binary form as tritonclient writes and reads it."""

    def __init__(self, node: MeshNode) -> None:
        self._key = node.admin_key
        self._connection = HTTPConnection("127.0.0.1", int(node.told["http"].rpartition(":")[2]), timeout=30)
        self._connection.connect()

    def ask(self, model: str, row: int) -> None:
        tensor = InferInput("row", [1], "INT64")
        tensor.set_data_from_numpy(np.array([row]))
        body, json_size = InferenceServerClient.generate_request_body([tensor], outputs=[InferRequestedOutput("y")])
        headers = {"Authorization": f"Bearer {self._key}", "Inference-Header-Content-Length": str(json_size)}
        self._connection.request("POST", f"/v2/models/{quote(model, '')}/infer", body, headers)

    def answer(self) -> tuple[int, list[float]]:
        """The status, and the elements of a good answer."""
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            return answer.status, []
        size = answer.getheader("Inference-Header-Content-Length")
        result = InferenceServerClient.parse_response_body(body, header_length=size and int(size))
        return 200, result.as_numpy("y").ravel().tolist()

    def close(self) -> None:
        self._connection.close()


def test_a_sixth_node_is_seen_by_all_and_a_stranger_by_none(five: Mesh, model: bytes) -> None:
    host = five.lan.host("strangers")
    stranger = five.make("stranger", host, key=None)
    stranger.begin()
    stranger.wait_ready()
    (sixth,) = five.start("sixth")
    insiders = [node for node in five.nodes.values() if node is not stranger]
    names = {node.name for node in insiders}
    until(lambda: all(node.sees() == names for node in insiders), "six nodes see each other, and nobody else")
    assert stranger.sees() == {"stranger"}
    assert stranger.ask("GET", "/v1/models").json["models"] == []
    assert stranger.call("replicated", {"x": ROW.tolist()}).status == 404
    for node in (stranger, sixth):
        assert node.stop() == 0
        del five.nodes[node.name]


# The whole matrix, and how late the answers were, is `python -m benchmarks.mesh_faults`.
@pytest.mark.parametrize("fault", ["kill -9", "freeze", "answers lost"])
def test_no_call_is_lost_with_a_replica(five: Mesh, fault: str) -> None:
    a, replicas = five.nodes["a"], [five.nodes[name] for name in "bcd"]
    before = answered("replicated", replicas)
    with load(five, a) as calls:
        calls.wait_s(_FAULT_AT_S)
        [(name, _)] = (answered("replicated", replicas) - before).most_common(1)
        victim = five.nodes[name]  # that had the most to lose
        match fault:
            case "kill -9":
                victim.kill()
            case "freeze":
                victim.freeze()
            case _:
                five.lan.link(victim.host, a.host, down=True)
        report = calls.report()
    mend(five)
    assert [call.fault for call in report.lost] == []
    assert victim.name in {call.node for call in report.calls}


def test_calls_wait_for_the_only_holder_that_is_silent_for_a_moment(five: Mesh, model: bytes) -> None:
    a, e = five.nodes["a"], five.nodes["e"]
    e.deploy("owner/on-e-alone", model)
    until(lambda: answers(a, "owner/on-e-alone"), "a's calls are answered by e")
    with ThreadPoolExecutor(2) as pool:
        e.freeze()
        until(lambda: "e" not in a.sees(), "a has lost e")
        waiting = [pool.submit(a.call, name, {"x": ROW.tolist()}) for name in ("owner/on-e-alone", "on-nobody")]
        assert waiting[1].result().status == 404
        e.thaw()
        answer = waiting[0].result()
    assert answer.status == 200, answer.body
    assert answer.headers["x-ingle-node"] == "e"
    mend(five)


def test_calls_of_what_lies_on_a_lost_node_alone_are_told_where_it_lies(five: Mesh, model: bytes) -> None:
    a, e = five.nodes["a"], five.nodes["e"]
    e.deploy("owner/lost-with-e", model)
    until(lambda: answers(a, "owner/lost-with-e"), "a's calls are answered by e")
    e.kill()
    until(lambda: a.ask("GET", "/v1/models/owner/lost-with-e").status == 404, "a waits for e no longer")
    answer = a.call("owner/lost-with-e", {"x": ROW.tolist()})
    assert answer.status == 503
    assert answer.json["error"] == ("owner/lost-with-e lies on e alone, out of reach now: `ingle mesh` says since when")
    assert answer.headers["retry-after"] == "1"
    assert a.call("owner/lost-with-e:7.0.0", {"x": ROW.tolist()}).status == 404
    mend(five)
    assert answers(a, "owner/lost-with-e")


def test_a_node_that_ends_answers_the_calls_first_that_wait_for_a_lost_holder(five: Mesh, model: bytes) -> None:
    a, e = five.nodes["a"], five.nodes["e"]
    e.deploy("owner/waited-for", model)
    until(lambda: answers(a, "owner/waited-for"), "a's calls are answered by e")
    e.freeze()
    until(lambda: a.nodes()["e"]["standing"] == "dead", "a has lost e")
    port = int(a.told["http"].rpartition(":")[2])
    with ExitStack() as stack, ThreadPoolExecutor() as threads:
        with a.host.entered():
            callers = [stack.enter_context(closing(HTTPConnection("127.0.0.1", port, timeout=20))) for _ in range(4)]
            for caller in callers:
                caller.request("POST", "/v1/models/owner/waited-for", json.dumps({"x": ROW.tolist()}), JSON)
        assert a.call("owner/replicated", {"x": ROW.tolist()}).status == 404  # what came before was taken
        ends = threads.submit(a.stop)
        answers_read = [caller.getresponse() for caller in callers]
        assert [answer.status for answer in answers_read] == [503] * 4
        assert "was lost, and did not come back" in answers_read[0].read().decode()
        assert ends.result() == 0
    mend(five)


def test_no_call_is_lost_with_the_entry_node_through_a_client_that_knows_several(five: Mesh) -> None:
    e, a = five.nodes["e"], five.nodes["a"]
    with load(five, e, a) as calls:
        calls.wait_s(_FAULT_AT_S)
        e.kill()
        report = calls.report()
    mend(five)
    assert [call.fault for call in report.lost] == []


def test_no_call_is_lost_in_a_rolling_restart(five: Mesh) -> None:
    nodes = [five.nodes[name] for name in "bcd"]
    plan = plan_of([five.nodes[name].url for name in "bcd"], REPLICATED, evenly(_RATE_PER_S, 60))
    with MeshLoad(five.lan.hosts["callers"], plan) as calls:
        for node in nodes:
            assert node.stop() == 0
            node.restart()
            five.wait_all_see_all()
        report = calls.finish()
    assert [call.fault for call in report.lost] == []


def test_what_two_sides_of_a_partition_publish_both_have_when_it_is_over(five: Mesh, model: bytes) -> None:
    b, e = five.nodes["b"], five.nodes["e"]
    five.lan.partition([five.nodes[name].host for name in "abc"], [five.nodes[name].host for name in "de"])
    until(lambda: b.sees() == {"a", "b", "c"} and e.sees() == {"d", "e"}, "each side is alone")
    b.deploy("owner/of-b", model)
    e.deploy("owner/of-e", model)
    mend(five)
    for node, name in product(five.nodes.values(), ("owner/of-b", "owner/of-e")):
        until(partial(answers, node, name), f"{node.name} answers for {name}")


def test_nodes_meet_without_multicast_where_one_is_told_an_address(lan: Lan, tmp_path: Path) -> None:
    alone = ("--open", "--federation-discover", "false")
    with Mesh(lan, tmp_path) as mesh:
        (first,) = mesh.start("first", flags=alone)
        joining = (*alone, "--join", f"{first.host.ipv4}:8004")
        mesh.start("second", "third", flags=joining)
        mesh.wait_all_see_all()
