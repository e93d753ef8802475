"""The ZeroMQ front, frame by frame: answers, refusals, hostile bytes, callers that leave or do not read."""

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import requests
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import ADD_ONE, SLOW, deploy, make_key, onnx_bytes
from zmq_caller import ROW, ZmqCaller, add_one, tensor

from appliance.core.client_frames import (
    Call,
    ClientKind,
    Fault,
    Query,
    Reply,
    Result,
    Tensor,
    WantedOutput,
    message_parts,
)
from appliance.core.frames import PREFIX

SMALL_MAX_BODY = 2 * 2**20


@pytest.fixture(scope="module")
def served(node: Any) -> Any:
    deploy(node, "zmq/add-one", onnx_bytes(ADD_ONE))
    deploy(node, "zmq/slow", onnx_bytes(SLOW))
    return node


@pytest.fixture
def caller(served: Any) -> Iterator[ZmqCaller]:
    with ZmqCaller(served.zmq) as made:
        yield made


def slow_call(number: int, key: str, *, turns: int = 1) -> tuple[Call, bytes, bytes]:
    """A call of `zmq/slow` and its body."""
    count, x = np.array(turns), np.zeros((64, 64), np.float32)
    head = Call(number, "zmq/slow", "", [tensor("turns", count, "INT64"), tensor("x", x)], key=key)
    return head, count.tobytes(), x.tobytes()


def query(caller: ZmqCaller, asked: Query) -> Any:
    caller.call(asked)
    head, (text,) = caller.answer()
    assert isinstance(head, Reply), head
    assert head.call == asked.call
    return json.loads(bytes(text))


def test_a_call_is_answered_with_its_number_and_told_where_it_ran(served: Any, caller: ZmqCaller) -> None:
    caller.call(add_one(5, served.admin_key), ROW.tobytes())
    head, (body,) = caller.answer()
    assert isinstance(head, Result)
    assert (head.call, head.model, head.version, head.ordinal) == (5, "zmq/add-one", "1.0.0", 1)
    assert [(t.name, t.dtype, t.shape) for t in head.tensors] == [("y", "FP32", [1, 3])]
    assert np.array_equal(np.frombuffer(body, np.float32), ROW[0] + 1)
    record = requests.get(f"{served.url}/v1/calls/{head.id}", headers=served.headers, timeout=60).json()
    assert (record["model"], record["node"]) == ("zmq/add-one", head.node)


def test_calls_under_way_at_once_are_told_apart_by_their_numbers(served: Any, caller: ZmqCaller) -> None:
    for number in range(1, 200):
        caller.call(add_one(number, served.admin_key), (ROW + number).tobytes())
    for _ in range(1, 200):
        head, (body,) = caller.answer()
        assert isinstance(head, Result), head
        assert np.frombuffer(body, np.float32)[0] == head.call + 2


def test_tensors_of_twenty_megabytes_and_none_go_both_ways(served: Any, caller: ZmqCaller) -> None:
    for rows in (1_750_000, 0):
        array = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
        head = Call(1, "zmq/add-one", tensors=[tensor("x", array)], key=served.admin_key)
        caller.call(head, array.tobytes())
        result, (body,) = caller.answer()
        assert isinstance(result, Result), result
        assert np.array_equal(np.frombuffer(body, np.float32).reshape(rows, 3), array + 1)


def test_a_tensor_may_be_json_text(served: Any, caller: ZmqCaller) -> None:
    text = b"[[1, 2, 3]]"
    caller.call(Call(1, "zmq/add-one", "", [Tensor("x", "FP32", [1, 3], 1, len(text))], key=served.admin_key), text)
    _, (body,) = caller.answer()
    assert np.array_equal(np.frombuffer(body, np.float32), ROW[0] + 1)


def test_outputs_may_be_classified(served: Any, caller: ZmqCaller) -> None:
    caller.call(add_one(1, served.admin_key, outputs=[WantedOutput("y", 2)]), ROW.tobytes())
    head, (body,) = caller.answer()
    assert isinstance(head, Result)
    assert (head.tensors[0].dtype, head.tensors[0].shape) == ("BYTES", [1, 2])
    assert bytes(body)[4:].startswith(b"4.000000:2")


@pytest.mark.parametrize(
    ("operation", "path"),
    [
        ("server_metadata", "/v2"),
        ("model_metadata", "/v2/models/zmq/add-one"),
        ("model_config", "/v2/models/zmq/add-one/config"),
    ],
)
def test_queries_are_answered_as_over_http(served: Any, caller: ZmqCaller, operation: str, path: str) -> None:
    over_http = requests.get(f"{served.url}{path}", headers=served.headers, timeout=60).json()
    assert query(caller, Query(1, operation, "zmq/add-one", key=served.admin_key)) == over_http


def test_index_statistics_and_readiness_are_told(served: Any, caller: ZmqCaller) -> None:
    key = served.admin_key
    rows = query(caller, Query(1, "index", key=key, ready_only=True))
    assert {"name": "zmq/add-one", "version": "1", "state": "READY", "reason": ""} in rows
    (row,) = query(caller, Query(2, "statistics", "zmq/add-one", key=key))["model_stats"]
    assert row["name"] == "zmq/add-one"
    assert query(caller, Query(3, "model_ready", "zmq/add-one", key=key)) == {"ready": True}
    assert query(caller, Query(4, "model_ready", "zmq/nothing", key=key)) == {"ready": False}
    assert query(caller, Query(5, "live")) == {"live": True}
    assert query(caller, Query(6, "ready")) == {"ready": True}


def test_a_model_is_unloaded_and_loaded_by_query(served: Any, caller: ZmqCaller) -> None:
    key = served.admin_key
    query(caller, Query(1, "unload", "zmq/add-one", key=key))
    assert query(caller, Query(2, "model_ready", "zmq/add-one", key=key)) == {"ready": False}
    query(caller, Query(3, "load", "zmq/add-one", key=key))
    assert query(caller, Query(4, "model_ready", "zmq/add-one", key=key)) == {"ready": True}


def test_a_caller_sees_and_calls_what_its_key_allows(served: Any, caller: ZmqCaller) -> None:
    key = make_key(served, "call:zmq/slow")
    caller.call(add_one(1, key), ROW.tobytes())
    assert caller.fault().code == "forbidden"
    for number, wrong in enumerate(("", "simwrong"), 2):
        caller.call(add_one(number, wrong), ROW.tobytes())
        assert caller.fault().code == "unauthenticated"
        caller.call(Query(number, "index", key=wrong))
        assert caller.fault().code == "unauthenticated"
    assert {row["name"] for row in query(caller, Query(9, "index", key=key))} == {"zmq/slow"}
    caller.call(Query(10, "model_metadata", "zmq/add-one", key=key))
    assert caller.fault().code == "forbidden"


def test_a_deadline_is_kept(served: Any, caller: ZmqCaller) -> None:
    head, *body = slow_call(1, served.admin_key, turns=5000)
    head.deadline_ms = 20
    caller.call(head, *body)
    fault = caller.fault()
    assert (fault.call, fault.code) == (1, "deadline")
    assert fault.id


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"model": "zmq/nothing"}, "not_found", "zmq/nothing"),
        ({"model": "no name"}, "not_found", "no name"),
        ({"version": "7"}, "not_found", "7"),
        ({"tensors": []}, "bad_input", "body has 12"),
        ({"tensors": [Tensor("z", "FP32", [1, 3], 0, 12)]}, "bad_input", "no input 'z'"),
        ({"tensors": [Tensor("x", "FP64", [1, 3], 0, 12)]}, "bad_input", "FP64"),
        ({"tensors": [Tensor("x", "FP32", [2**40, 2**40], 0, 12)]}, "bad_input", "shape"),
        ({"tensors": [Tensor("x", "FP32", [2**63, 3], 0, 12)]}, "bad_input", "shape"),
        ({"tensors": [Tensor("x", "FP32", [-1, 3], 0, 12)]}, "bad_input", "shape"),
        ({"tensors": [Tensor("x", "FP32", [2, 3], 0, 12)]}, "bad_input", "takes 24 bytes"),
        ({"tensors": [Tensor("x", "FP32", [1, 3], 2, 12)]}, "bad_input", "encoding 2"),
        ({"tensors": [Tensor("x", "FP32", [1, 3], 1, 12)]}, "bad_input", "JSON"),
        ({"outputs": [WantedOutput("z")]}, "bad_input", "no output 'z'"),
        ({"outputs": [WantedOutput("y", -1)]}, "bad_input", "-1 classes"),
        ({"deadline_ms": -1.0}, "bad_input", "deadline_ms"),
        ({"deadline_ms": float("nan")}, "bad_input", "deadline_ms"),
        ({"parameters": {"priority": "high"}}, "bad_input", "priority"),
        ({"pin": "node:elsewhere"}, "not_found", "elsewhere"),
        ({"pin": "somewhere"}, "bad_input", "local, node:NAME or tag:WORD"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(
    served: Any, caller: ZmqCaller, fields: dict[str, Any], code: str, words: str
) -> None:
    head = msgspec.structs.replace(add_one(3, served.admin_key), **fields)
    caller.send(*message_parts(head, [ROW.tobytes()]))
    fault = caller.fault()
    assert (fault.call, fault.code) == (3, code)
    assert words in fault.sentence


def test_an_unknown_operation_is_told_which_there_are(served: Any, caller: ZmqCaller) -> None:
    caller.call(Query(1, "reboot", key=served.admin_key))
    assert "model_metadata" in caller.fault().sentence


def test_a_number_that_is_in_use_is_refused(served: Any, caller: ZmqCaller) -> None:
    with slow_model_held(served):
        for _ in range(2):
            caller.call(*slow_call(1, served.admin_key))
        assert "call 1" in caller.fault().sentence
    assert isinstance(caller.answer()[0], Result)


@contextmanager
def slow_model_held(node: Any) -> Iterator[None]:
    """The worker of `zmq/slow` stands still: what is sent meanwhile is under way until this ends."""
    with ZmqCaller(node.zmq) as caller:
        caller.call(*slow_call(1, node.admin_key))
        assert isinstance(caller.answer()[0], Result)  # so there is a worker
    model = requests.get(f"{node.url}/v1/models/zmq/slow", headers=node.headers, timeout=60).json()
    workers = [worker["pid"] for worker in model["workers"]]
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in workers:
            os.kill(pid, signal.SIGCONT)


HOSTILE = {
    "nothing": [b""],
    "a greeting of another protocol": [b"GET / HTTP/1.1\r\n\r\n"],
    "another layout version": [PREFIX.pack(2, 16, 0, 0, 0)],
    "a head cut short": [message_parts(Query(1, "live"))[0][:20]],
    "a head in two parts": [message_parts(Query(1, "live"))[0][:20], message_parts(Query(1, "live"))[0][20:]],
    "a map that never ends": [PREFIX.pack(1, 16, 0, 5, 0) + b"\xdf\xff\xff\xff\xff"],
    "lists within lists": [PREFIX.pack(1, 17, 0, 60_003, 0) + b"\x97\x01\xa1m" + b"\x91" * 60_000],
    "a node's own words": message_parts(Reply(1, "me")),
    "a thousand empty parts": [*message_parts(Query(1, "nonsense")), *[b""] * 5000],
    "a thousand parts too many": [*message_parts(Query(1, "live")), *[b"x"] * 5000],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_messages_are_refused_and_the_connection_goes_on(caller: ZmqCaller, name: str) -> None:
    caller.send(*HOSTILE[name])
    assert caller.fault().code in ("bad_input", "unauthenticated")
    assert query(caller, Query(2, "live")) == {"live": True}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_message_at_all_does_harm(served: Any, caller: ZmqCaller, data: st.DataObject) -> None:
    """Whole messages with bytes changed, cut off, put in, and parts moved about."""
    packed = bytearray(message_parts(add_one(1, served.admin_key), [ROW.tobytes()])[0])
    for place, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(packed) - 1), st.integers(0, 255)), max_size=5)
    ):
        packed[place] = value
    cuts = sorted(data.draw(st.lists(st.integers(0, len(packed)), max_size=3)))
    parts = [bytes(packed[a:b]) for a, b in zip([0, *cuts], [*cuts, len(packed)], strict=True)]
    caller.send(*parts)
    head, _ = caller.answer()
    assert isinstance(head, Result | Reply) or (isinstance(head, Fault) and head.code != "internal"), head


# A connection of ZMTP 3.0 by hand: libzmq keeps what is unfinished to itself (rfc.zeromq.org/spec/23).
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER"


def ends(connection: socket.socket) -> bool:
    """Whether the node ends a connection, politely or not."""
    try:
        while connection.recv(1000):
            pass  # a greeting of the node's comes first
    except ConnectionError:
        pass
    return True


def test_a_peer_that_does_not_speak_zeromq_harms_nobody(served: Any, caller: ZmqCaller) -> None:
    host, port = served.zmq.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as stranger:
        stranger.sendall(b"\xff" * 500)
        assert ends(stranger)
    assert query(caller, Query(1, "live")) == {"live": True}


def test_a_peer_of_zeromq_2_is_passed_over_without_a_fault(served: Any, caller: ZmqCaller) -> None:
    host, port = served.zmq.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as stranger:
        stranger.sendall(b"\x01\x00" + b"\x02\x01a" + b"\x02\x00b")  # an empty name, and a message of two parts
        for number in range(1, 50):  # somewhere among these it is read
            assert query(caller, Query(number, "live")) == {"live": True}
    assert "Traceback" not in served.log.read_text()


def test_a_caller_that_names_itself_is_told_not_to(served: Any) -> None:
    with ZmqCaller(served.zmq, IDENTITY=b"sensor-7") as named:
        named.call(Query(1, "live"))
        assert "routing id" in named.fault().sentence


# What needs a node whose bounds are near.


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from tests.conftest import start_node, stop_node

    folder: Path = tmp_path_factory.mktemp("small")
    running = start_node(folder, "--gateway-max-body", str(SMALL_MAX_BODY))
    deploy(running, "zmq/add-one", onnx_bytes(ADD_ONE))
    yield running
    assert stop_node(running) == 0
    assert "Traceback" not in running.log.read_text()


def rows(megabytes: float) -> Any:
    return np.zeros((int(megabytes * 2**20 / 12), 3), np.float32)


def call_of(number: int, array: Any, key: str) -> Call:
    return Call(number, "zmq/add-one", tensors=[tensor("x", array)], key=key)


def test_a_call_beyond_the_largest_is_refused_or_cut_off(small: Any) -> None:
    with ZmqCaller(small.zmq) as caller:
        array = rows(3)
        caller.call(call_of(1, array, small.admin_key), array.tobytes())
        assert caller.fault().code == "too_large"
        array = rows(6)
        caller.call(call_of(2, array, small.admin_key), array.tobytes())
        assert caller.was_cut_off()


def test_a_message_without_an_end_is_cut_off(small: Any) -> None:
    host, port = small.zmq.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=60) as stranger:
        stranger.sendall(GREETING + READY)
        part = b"\x03" + (2**20).to_bytes(8, "big") + bytes(2**20)  # long, and more follow
        with pytest.raises(ConnectionError):
            _ = [stranger.sendall(part) for _ in range(20_000)]
    with ZmqCaller(small.zmq) as caller:
        assert query(caller, Query(1, "live")) == {"live": True}


def test_a_caller_with_too_much_under_way_is_told_to_wait(small: Any) -> None:
    with ZmqCaller(small.zmq) as caller:
        array = rows(0.9)
        for number in range(1, 9):
            caller.call(call_of(number, array, small.admin_key), array.tobytes())
        heads = [caller.answer()[0] for _ in range(8)]
    faults = [head for head in heads if isinstance(head, Fault)]
    assert any(isinstance(head, Result) for head in heads)
    assert all(fault.code == "busy" and fault.retry_after_s for fault in faults)


@pytest.mark.parametrize("megabytes", [1.5, 0.02])
def test_a_caller_that_does_not_read_costs_the_node_no_more_than_is_allowed(small: Any, megabytes: float) -> None:
    before, cuts = resident_bytes(small.process.pid), cut_off_for_unread(small)
    array = rows(megabytes)
    with ZmqCaller(small.zmq, RCVHWM=1, RCVBUF=4096, LINGER=0, SNDTIMEO=10) as caller:
        for number in range(1, int(60 / megabytes)):
            # Asked of the node: the caller's own ZeroMQ, which no longer reads, does not find out.
            if cut_off_for_unread(small) > cuts:
                break
            with suppress(zmq.Again):  # the node, or a busy machine, is slower than this
                caller.call(call_of(number, array, small.admin_key), array.tobytes())
        grown = resident_bytes(small.process.pid) - before
    assert grown < 100 * 2**20
    with ZmqCaller(small.zmq) as caller:
        assert query(caller, Query(1, "live")) == {"live": True}


def cut_off_for_unread(node: Any) -> int:
    """How many callers it has cut off since they read nothing."""
    return int(node.log.read_text().count("answers unread"))


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_node_that_ends_answers_what_is_under_way(nodes: Callable[..., Any]) -> None:
    node = nodes()
    deploy(node, "zmq/slow", onnx_bytes(SLOW))
    with ZmqCaller(node.zmq) as caller:
        with slow_model_held(node):
            caller.call(*slow_call(1, node.admin_key))
            assert query(caller, Query(2, "live")) == {"live": True}  # the call has been taken
            node.process.send_signal(signal.SIGTERM)
        assert isinstance(caller.answer()[0], Result)
    assert node.process.wait(60) == 0


def test_kinds_of_clients_and_workers_are_apart() -> None:
    from appliance.core.frames import Kind

    assert {int(kind) for kind in Kind}.isdisjoint(int(kind) for kind in ClientKind)
