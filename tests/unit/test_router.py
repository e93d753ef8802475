"""The router as the gateway uses it, on a clock that the test moves."""

import gc

import pytest
from routed_mesh import KEY, Caller, Mesh, make_peer

from appliance.core.errors import BadInputError, UnavailableError, WorkerFailedError
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from appliance.routing.call import Call
from appliance.routing.pins import Pin
from appliance.routing.routed_call import RoutedCall
from federation.messages import ModelState, Record


def test_the_cheapest_is_asked_and_its_answer_is_the_callers() -> None:
    mesh = Mesh(make_peer("a", backlog_s=0.5), make_peer("b"))
    routed, caller = mesh.call()
    mesh.clock.pass_s(0.011)
    routed.answered("b", "an answer")
    assert caller.said == ["ask b", "an answer from b"]
    assert mesh.clock.alarms == 0


def test_nobody_has_it_and_the_call_fails_at_once() -> None:
    _, caller = Mesh().call()
    assert caller.said == ["unavailable"]


def test_this_node_is_asked_where_it_is_soonest_and_its_backlog_is_no_news() -> None:
    mesh = Mesh(make_peer("a", rtt_s=0.003))
    here = ModelState(replicas=1, run_s={1: 0.01})
    for _ in range(3):  # what it took is in what it tells of itself: it is not counted twice
        _, caller = mesh.call(local=here)
        assert caller.said == ["ask me"]


def test_own_calls_count_before_the_peer_says_so() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.012))
    assert [mesh.call()[1].said for _ in range(4)] == [["ask a"], ["ask a"], ["ask b"], ["ask a"]]


def test_what_a_peer_tells_takes_the_place_of_what_was_reckoned() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.025))
    for _ in range(3):
        mesh.call()
    assert mesh.call()[1].said == ["ask b"]
    mesh.clock.pass_s(0.01)
    mesh.peers["a"].models[KEY] = ModelState(replicas=1, run_s={1: 0.01}, backlog_s=0.005)
    assert mesh.call()[1].said == ["ask a"]


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({"pin": Pin("local")}, "me", id="here"),
        pytest.param({"pin": Pin("node", "box-b")}, "b", id="a name"),
        pytest.param({"pin": Pin("tag", "gpu")}, "b", id="a tag"),
        pytest.param({"pin": Pin("tag", "here")}, "me", id="this node's tag"),
        pytest.param({"bound_to": "b", "binding": "sequence"}, "b", id="a sequence that a peer keeps"),
        pytest.param({"bound_to": "me", "binding": "sequence"}, "me", id="a sequence that is kept here"),
    ],
)
def test_a_call_runs_where_it_must(asked: dict[str, object], expected: str) -> None:
    mesh = Mesh(make_peer("a", rtt_s=0.0001), make_peer("b", rtt_s=0.1, tags=("gpu",), backlog_s=9.0))
    local = ModelState(replicas=1, run_s={1: 0.01}, backlog_s=5.0)
    routed, caller = mesh.call(local=local, **asked)
    assert caller.said == [f"ask {expected}"]
    routed.failed(expected, UnavailableError("it drains"), elsewhere=True)
    mesh.clock.pass_s(6.0)
    assert {line for line in caller.said if line.startswith("ask")} == {f"ask {expected}"}


@pytest.mark.parametrize(
    ("lost_s", "asked", "waits"),
    [
        pytest.param(1.0, {}, True, id="lost a moment ago"),
        pytest.param(6.0, {}, False, id="lost long ago"),
        pytest.param(1.0, {"key": "local/other:1.0.0@0123456789abcdef"}, False, id="it did not have the model"),
        pytest.param(1.0, {"pin": Pin("node", "box-a")}, True, id="a pin that means it"),
        pytest.param(1.0, {"pin": Pin("node", "box-b")}, False, id="a pin that does not"),
        pytest.param(1.0, {"binding": "once"}, True, id="nothing was run yet"),
        pytest.param(1.0, {"binding": "sequence"}, False, id="a sequence's next call would come before it"),
        pytest.param(1.0, {"max_waiting": 0}, False, id="too many wait already"),
    ],
)
def test_a_call_waits_for_the_only_holder_that_was_lost_a_moment_ago(
    lost_s: float, asked: dict[str, object], waits: bool
) -> None:
    mesh = Mesh(peer := make_peer("a"))
    record = Record("local/tiny", "1.0.0", 1, "0" * 64, 10, Signature((), ()), Manifest(), False, "", 0.0)
    peer.standing, peer.since_s = "dead", mesh.clock.now_s - lost_s
    told, peer.models, peer.holdings = peer.models, {}, {KEY: record}
    _, caller = mesh.call(**asked)
    assert caller.said == ([] if waits else ["unavailable"])
    mesh.clock.pass_s(2.0)
    peer.standing, peer.models = "alive", told
    mesh.clock.pass_s(0.6)
    assert caller.said == (["ask a"] if waits else ["unavailable"])


def test_a_holder_that_does_not_come_back_is_waited_for_so_long_and_no_longer() -> None:
    mesh = Mesh(peer := make_peer("a"))
    record = Record("local/tiny", "1.0.0", 1, "0" * 64, 10, Signature((), ()), Manifest(), False, "", 0.0)
    peer.standing, peer.since_s, peer.models, peer.holdings = "dead", mesh.clock.now_s, {}, {KEY: record}
    _, caller = mesh.call()
    mesh.clock.pass_s(4.5)
    assert caller.said == []
    mesh.clock.pass_s(1.5)
    assert caller.said == ["unavailable"]
    assert mesh.clock.alarms == 0


def test_so_many_calls_wait_for_a_lost_holder_and_no_more() -> None:
    mesh = Mesh(peer := make_peer("a"))
    record = Record("local/tiny", "1.0.0", 1, "0" * 64, 10, Signature((), ()), Manifest(), False, "", 0.0)
    peer.standing, peer.since_s = "dead", mesh.clock.now_s
    told, peer.models, peer.holdings = peer.models, {}, {KEY: record}
    calls = [mesh.call(max_waiting=2) for _ in range(3)]
    assert [caller.said for _, caller in calls] == [[], [], ["unavailable"]]
    calls[0][0].cancelled()
    assert mesh.call(max_waiting=2)[1].said == []
    peer.standing, peer.models = "alive", told
    mesh.clock.pass_s(0.1)
    peer.standing, peer.models = "dead", {}
    assert [mesh.call(max_waiting=2)[1].said for _ in range(3)] == [[], [], ["unavailable"]]
    mesh.clock.pass_s(5.5)
    peer.since_s = mesh.clock.now_s
    assert mesh.call(max_waiting=2)[1].said == []


def test_a_pin_that_nobody_meets_fails() -> None:
    assert Mesh(make_peer("a")).call(pin=Pin("tag", "gpu"))[1].said == ["unavailable"]


def test_a_node_that_cannot_be_sent_to_is_passed_over() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.002))
    call = Call(KEY, 100, mesh.clock.now_s + 10)
    caller = Caller()
    caller.refusing["a"] = UnavailableError("there is no link")
    routed: RoutedCall[str] = mesh.router.route(call, caller)
    routed.start()
    assert caller.said == ["ask a", "ask b"]


def test_a_fault_of_ours_in_asking_leaves_a_call_that_can_end() -> None:
    mesh, caller = Mesh(make_peer("a")), Caller()
    caller.refusing["a"] = RuntimeError("a fault of ours")
    routed: RoutedCall[str] = mesh.router.route(Call(KEY, 100, mesh.clock.now_s + 10), caller)
    with pytest.raises(RuntimeError):
        routed.start()
    routed.cancelled()
    assert caller.said == ["ask a", "cancel a"]


def test_what_the_pool_says_at_once_comes_in_its_turn() -> None:
    caller = Caller()
    caller.refusing["me"] = BadInputError("the shape is wrong")
    routed: RoutedCall[str] = Mesh(make_peer("a")).router.route(
        Call(KEY, 100, 200.0, ModelState(replicas=1, run_s={1: 0.001})), caller
    )
    routed.start()
    assert caller.said == ["ask me", "bad_input"]


def test_a_late_call_is_hedged_and_the_first_answer_is_the_callers() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.002))
    routed, caller = mesh.call()
    mesh.clock.pass_s(1.0)
    routed.answered("b", "the hedge's")
    routed.answered("a", "too late")
    assert caller.said == ["ask a", "ask b", "the hedge's from b", "cancel a"]
    assert mesh.clock.alarms == 0


def test_calls_at_a_suspect_are_asked_of_others_and_new_ones_pass_it_over() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.05))
    routed, caller = mesh.call()
    mesh.peers["a"].standing = "suspect"
    mesh.router.peer_suspect("a")
    assert caller.said == ["ask a", "ask b"]
    assert mesh.call()[1].said == ["ask b"]
    routed.answered("a", "it lives")
    assert caller.said[2:] == ["it lives from a", "cancel b"]


def test_calls_at_a_peer_that_is_lost_go_elsewhere() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.05))
    calls = [mesh.call() for _ in range(3)]
    mesh.peers["a"].standing = "dead"
    mesh.router.peer_lost("a")
    assert [caller.said for _, caller in calls] == [["ask a", "ask b"]] * 3
    for routed, caller in calls:
        routed.answered("b", "an answer")
        assert caller.said[2:] == ["an answer from b"]


def test_the_caller_goes() -> None:
    mesh = Mesh(make_peer("a"))
    routed, caller = mesh.call()
    routed.cancelled()
    routed.answered("a", "to nobody")
    assert caller.said == ["ask a", "cancel a"]
    assert mesh.clock.alarms == 0


def test_a_node_that_fails_fast_is_not_the_idlest() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.05))
    for _ in range(3):
        routed, _ = mesh.call()
        routed.failed("a", WorkerFailedError("its worker died"), elsewhere=False)
        routed.answered("b", "an answer")
    assert mesh.call()[1].said == ["ask b"]
    mesh.clock.pass_s(1.1)
    probe, caller = mesh.call()
    assert caller.said == ["ask a"]
    assert mesh.call()[1].said == ["ask b"]
    probe.answered("a", "it is well again")
    assert mesh.call()[1].said == ["ask a"]


def test_calls_with_bad_input_are_not_held_against_a_node() -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", rtt_s=0.05))
    for _ in range(5):
        routed, caller = mesh.call()
        routed.failed("a", BadInputError("the shape is wrong"), elsewhere=False)
        assert caller.said == ["ask a", "bad_input"]
    assert mesh.call()[1].said == ["ask a"]


def test_a_load_is_begun_once() -> None:
    """Two nodes are cold: the calls that come while the first loads wait for it."""
    mesh = Mesh(*(make_peer(node, replicas=0, cold_start_s=0.5) for node in "ab"))
    assert [mesh.call()[1].said for _ in range(4)] == [["ask a"]] * 4


def test_warm_remote_beats_cold_local() -> None:
    mesh = Mesh(make_peer("a", rtt_s=0.02))
    assert mesh.call(local=ModelState(cold_start_s=0.5))[1].said == ["ask a"]


def test_a_node_that_only_holds_the_model_is_asked_where_no_other_is_there() -> None:
    peer = make_peer("a")
    peer.models.clear()
    mesh = Mesh(peer)
    assert mesh.call()[1].said == ["unavailable"]
    signature = Signature((), ())
    peer.holdings[KEY] = Record("local/tiny", "1.0.0", 1, "01", 100, signature, Manifest(), False, "", 0.0)
    assert mesh.call()[1].said == ["ask a"]
    assert mesh.router.holders(KEY) == ["a"]


def test_a_slow_model_is_loaded_at_one_more_node_in_the_background() -> None:
    mesh = Mesh(make_peer("a", backlog_s=1.0), make_peer("b", replicas=0, cold_start_s=5.0))
    local = ModelState(cold_start_s=5.0)
    assert mesh.call(pin=Pin("node", "box-a"))[1].said == ["ask a"]
    assert mesh.loaded == []
    for _ in range(5):
        assert mesh.call(local=local)[1].said == ["ask a"]
        mesh.clock.pass_s(0.3)
    assert mesh.loaded == ["me"]  # it holds the model, and is the nearest
    mesh.call(local=ModelState(replicas=1, backlog_s=0.5, run_s={1: 0.01}))
    assert mesh.loaded == ["me", "b"]


def test_a_choice_explains_itself() -> None:
    mesh = Mesh(make_peer("a", rtt_s=0.002), make_peer("b", backlog_s=0.4))
    routed, _ = mesh.call()
    mesh.router.peer_suspect("a")
    assert routed.considered.explanation() == {
        "candidates": [
            {"node": "box-a", "total_s": 0.012, "rtt_s": 0.002, "run_s": 0.01},
            {"node": "box-b", "total_s": 0.411, "rtt_s": 0.001, "backlog_s": 0.4, "run_s": 0.01},
        ],
        "asked": [
            {"node": "box-a", "why": "first", "after_s": 0.0},
            {"node": "box-b", "why": "hedge", "after_s": 0.0},
        ],
    }


@pytest.mark.parametrize("end", ["answered", "failed", "cancelled"])
def test_a_call_that_is_over_leaves_nothing_for_the_garbage_collector(end: str) -> None:
    mesh = Mesh(make_peer("a"), make_peer("b", backlog_s=0.5))
    gc.collect()
    gc.disable()
    try:
        routed, caller = mesh.call()
        if end == "answered":
            routed.answered("a", "yes")
        elif end == "failed":
            routed.failed("a", BadInputError("no"), elsewhere=False)
        else:
            routed.cancelled()
        kept = routed.considered
        del routed, caller
        assert gc.collect() == 0
        assert not [found for found in gc.get_objects() if isinstance(found, RoutedCall)]
    finally:
        gc.enable()
    assert len(kept.asked) == 1
