"""What the mesh has, from holdings and registers: one answer, whoever computes it."""

import itertools
import random

import pytest

from appliance.core.manifest import Manifest
from federation.messages import Record, Register, Stamp, removal_key
from federation.view import MeshConflict, MeshModel, MeshView, dealt_ordinals, model_of
from tests.unit.mesh_network import UNIX_S, record_of

A, B, C = "a" * 32, "b" * 32, "c" * 32
NAME = "acme/m"


def record(version: str = "1.0.0", *, content: str = "x", ordinal: int = 1, age_s: float = 0.0) -> Record:
    return record_of(NAME, version, content=content, ordinal=ordinal, created_s=UNIX_S - age_s)


def register(kind: str, key: str, value: str, at_s: float = UNIX_S) -> Register:
    return Register(kind, NAME, key, Stamp(int(at_s * 1000), 0, A), value)


def removal(of: Record, *, at_s: float = UNIX_S, value: str | None = None) -> Register:
    return register("removed", removal_key(of.version, of.digest), of.digest if value is None else value, at_s)


def seen(holdings: dict[str, list[Record]], *registers: Register) -> MeshModel:
    model = model_of(NAME, holdings, registers)
    assert model is not None
    return model


def test_a_version_on_several_nodes_with_one_digest_is_one_version() -> None:
    model = seen({B: [record()], A: [record()], C: [record("1.1.0", ordinal=2)]})
    assert {version: of.holders for version, of in model.versions.items()} == {"1.0.0": (A, B), "1.1.0": (C,)}
    assert not model.conflicts


def test_what_a_lost_node_alone_has_is_lost_and_what_others_have_too_is_not() -> None:
    newer = record("2.0.0", ordinal=2)
    model = model_of(NAME, {A: [record()]}, [], [record(), newer])
    assert model is not None
    assert list(model.versions) == ["1.0.0"]
    assert model.lost == {"2.0.0": newer}
    assert model_of(NAME, {}, [removal(newer)], [newer]) is None


def test_of_what_is_lost_with_two_digests_the_older_is_meant() -> None:
    older, newer = record(content="x", age_s=5), record(content="y")
    model = model_of(NAME, {}, [], [newer, older])
    assert model is not None
    assert model.lost == {"1.0.0": older}


def test_two_digests_of_one_version_are_a_conflict_and_neither_is_a_version() -> None:
    one, two = record(content="x", age_s=5), record(content="y")
    model = seen({A: [one], B: [two], C: [two]})
    assert not model.versions
    assert model.conflicts == {"1.0.0": MeshConflict("1.0.0", 1, {one.digest: (A,), two.digest: (B, C)}, one)}


def test_a_conflict_ends_when_one_is_removed() -> None:
    one, two = record(content="x"), record(content="y")
    model = seen({A: [one], B: [two]}, removal(one))
    assert model.versions["1.0.0"].holders == (B,)
    assert model.dead == {A: (one,)}
    assert not model.conflicts


@pytest.mark.parametrize(
    ("removed", "alive"),
    [
        pytest.param(removal(record()), False, id="removed when it was deployed"),
        pytest.param(removal(record(), at_s=UNIX_S + 9), False, id="removed later"),
        pytest.param(removal(record(), at_s=UNIX_S - 9), True, id="deployed after the removal"),
        pytest.param(removal(record(), at_s=UNIX_S + 9, value=""), True, id="the removal was taken back"),
        pytest.param(removal(record(content="other"), at_s=UNIX_S + 9), True, id="another digest was removed"),
        pytest.param(removal(record("2.0.0"), at_s=UNIX_S + 9), True, id="another version was removed"),
        pytest.param(
            register("removed", removal_key("1.0.0", record().digest), "f" * 64, UNIX_S + 9), True, id="no such digest"
        ),
    ],
)
def test_a_removal_kills_what_is_not_younger(removed: Register, alive: bool) -> None:
    model = seen({A: [record()], B: [record()]}, removed)
    assert ("1.0.0" in model.versions) == alive
    assert (model.dead == {}) == alive


@pytest.mark.parametrize(
    ("records", "ordinals"),
    [
        pytest.param([("1.0.0", 1, 9), ("1.1.0", 2, 8)], {"1.0.0": 1, "1.1.0": 2}, id="nothing collides"),
        pytest.param([("1.1.0", 1, 8), ("1.0.0", 1, 9)], {"1.0.0": 1, "1.1.0": 2}, id="the oldest has it"),
        pytest.param(
            [("1.0.0", 1, 9), ("1.1.0", 1, 8), ("1.2.0", 1, 7), ("1.3.0", 5, 6)],
            {"1.0.0": 1, "1.3.0": 5, "1.1.0": 6, "1.2.0": 7},
            id="the others follow above all",
        ),
        pytest.param([("2.0.0", 1, 9), ("1.0.0", 1, 9)], {"1.0.0": 1, "2.0.0": 2}, id="of one age: by version"),
    ],
)
def test_colliding_ordinals_are_dealt_anew(records: list[tuple[str, int, float]], ordinals: dict[str, int]) -> None:
    firsts = [record(version, ordinal=ordinal, age_s=age_s) for version, ordinal, age_s in records]
    for order in itertools.permutations(firsts):
        assert dealt_ordinals(order) == ordinals


def test_the_ordinal_is_the_one_of_the_first_who_had_the_version() -> None:
    first, later = record(ordinal=4, age_s=50), record(ordinal=1)
    model = seen({A: [later], B: [first], C: [later, record("1.1.0", ordinal=4, age_s=3)]})
    assert model.versions["1.0.0"].record.ordinal == 4
    assert model.versions["1.1.0"].record.ordinal == 5


def test_aliases_and_wishes_are_as_written_and_an_empty_alias_takes_away() -> None:
    model = seen(
        {},
        register("alias", "prod", "1.0.0"),
        register("alias", "default", ""),
        register("scale", "", '{"min":1}'),
        register("copies", "", "2"),
        register("node", "revoked", "not about a model"),
    )
    assert model.aliases == {"prod": "1.0.0", "default": ""}
    assert model.wishes == {"scale": '{"min":1}', "copies": "2"}


def test_of_what_nobody_holds_or_wishes_there_is_nothing() -> None:
    assert model_of(NAME, {}, ()) is None
    assert model_of(NAME, {}, [removal(record())]) is None


def test_every_order_of_telling_gives_one_view() -> None:
    dice = random.Random(11)
    for _ in range(100):
        holdings = {
            node_id: [
                record(f"1.{minor}.0", content=dice.choice("xy"), ordinal=dice.randrange(1, 4), age_s=dice.randrange(3))
                for minor in dice.sample(range(4), dice.randrange(4))
            ]
            for node_id in (A, B, C)
        }
        registers = [removal(record("1.0.0"), at_s=UNIX_S - dice.randrange(3)), register("alias", "p", "1.1.0")]
        expected = model_of(NAME, holdings, registers)
        for order in itertools.permutations((A, B, C)):
            shuffled = {node_id: dice.sample(holdings[node_id], len(holdings[node_id])) for node_id in order}
            assert model_of(NAME, shuffled, registers[::-1]) == expected


def test_a_view_makes_a_model_once_until_something_about_it_changes() -> None:
    registers: list[Register] = []
    view = MeshView(lambda name: registers)
    view.hold(A, "k", record())
    first = view.model(NAME)
    assert view.model(NAME) is first
    view.hold(B, "k", record())
    assert view.holders(NAME) == {A, B}
    changed = view.model(NAME)
    assert changed is not None
    assert changed.versions["1.0.0"].holders == (A, B)
    for node_id in (A, B):
        view.let_go(node_id, "k", record())
        view.let_go(node_id, "never held", record())
    assert view.names() == []
    assert view.model(NAME) is None


def test_equal_records_of_several_nodes_lie_in_memory_once() -> None:
    view = MeshView(lambda name: ())
    mine = record()
    view.hold(A, "k", mine)
    assert view.same_record("k", record()) is mine
    other = Record(*[getattr(mine, field) for field in mine.__struct_fields__])
    assert view.same_record("k", other) is mine
    described = record()
    assert view.same_record("k2", described) is described
    assert mine.manifest == Manifest()
