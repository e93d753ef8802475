"""What a node tells of its peers, from what it knows of them: bounded, and no more than the caller may know."""

from appliance.gateway.mesh_api import MAX_WARM, describe_peer, warm_of
from appliance.security.scopes import Principal, Scope, parse_scope
from federation.messages import Hello, Introduction, Load, ModelState, model_key
from federation.peer import Peer, PeerStanding

ADMIN = Principal("", "admin", (Scope("admin"),))


def peer(standing: PeerStanding = "alive", **fields: object) -> Peer:
    introduction = Introduction("ab" * 16, "box", bytes(32), "3f9a", bytes(32), ["fd00::7", "10.0.0.7"], 8004, 8005)
    hello = Hello(1, "1.2.3", introduction, 1, http=8000, tags=["gpu"])
    return Peer(node_id="ab" * 16, name="box", standing=standing, since_s=100.0, hello=hello, **fields)  # type: ignore[arg-type]


def test_a_peer_is_told_with_its_link_its_load_and_where_its_fronts_are() -> None:
    told = describe_peer(peer(rtt_s=0.002, bytes_per_s=1e8, load=Load(backlog_s=1.5, power_w=40.0)), ADMIN, 107.5)
    assert (told.name, told.state, told.standing, told.standing_for_s, told.this) == (
        "box",
        "ready",
        "alive",
        7.5,
        False,
    )
    assert (told.http, told.grpc, told.tags, told.version) == ("[fd00::7]:8000", "", ["gpu"], "1.2.3")
    assert told.link is not None
    assert (told.link.rtt_s, told.link.bytes_per_s) == (0.002, 1e8)
    assert told.load is not None
    assert (told.load.backlog_s, told.load.power_w, told.load.temperature_c) == (1.5, 40.0, None)
    assert told.sandbox is None


def test_only_a_peer_that_is_alive_is_ready() -> None:
    standings: list[PeerStanding] = ["joining", "alive", "suspect", "draining", "dead"]
    ready = [standing for standing in standings if describe_peer(peer(standing), ADMIN, 0.0).state == "ready"]
    assert ready == ["alive"]


def test_cold_models_and_what_is_no_model_are_not_warm() -> None:
    models = {
        model_key("me/warm", "1.0.0", "d" * 64): ModelState(replicas=2, run_s={1: 0.003, 8: 0.01}),
        model_key("me/cold", "1.0.0", "d" * 64): ModelState(),
        "nonsense": ModelState(replicas=1),
        "a/b/c:1@d": ModelState(replicas=1),
        "": ModelState(replicas=1),
    }
    count, (warm,) = warm_of(models, ADMIN)
    assert (count, warm.model, warm.version, warm.replicas, warm.run_s) == (1, "me/warm", "1.0.0", 2, 0.003)


def test_a_key_is_told_of_the_models_that_it_may_call() -> None:
    caller = Principal("k", "camera", (parse_scope("call:me/*"),))
    models = {model_key(name, "1.0.0", "d" * 64): ModelState(replicas=1) for name in ("me/a", "you/a")}
    count, warm = warm_of(models, caller)
    assert (count, [model.model for model in warm]) == (1, ["me/a"])


def test_of_thousands_of_warm_models_the_busiest_are_told_and_all_are_counted() -> None:
    models = {
        model_key(f"me/m{number}", "1.0.0", "d" * 64): ModelState(replicas=1, backlog_s=float(number))
        for number in range(2000)
    }
    count, warm = warm_of(models, ADMIN)
    assert (count, len(warm), warm[0].model) == (2000, MAX_WARM, "me/m1999")
