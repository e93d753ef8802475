"""What other nodes hold, laid over a real catalogue: reads answer for the mesh, writes touch what is here alone."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.elsewhere import Elsewhere
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.core.errors import ConflictError, NotFoundError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.scale import Scale
from appliance.core.tensors import Signature, TensorSpec
from appliance.core.traffic import Traffic
from appliance.core.versions import Version, parse_version

NAME = parse_name("acme/digits")
SPEC = TensorSpec("x", "FP32", (-1, 4), ("batch", ""), optional=True)
INSPECTION = Inspection(Signature((SPEC,), (SPEC,)), True, "its first dimension is free")


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    catalogue = Catalogue(tmp_path)
    yield catalogue
    catalogue.close()


def publish(catalogue: Catalogue, content: bytes, version: str = "", *, keep_default: bool = False) -> ModelVersion:
    upload = catalogue.new_incoming() / "upload"
    upload.write_bytes(b"\x08\x0a" + content)
    wanted = parse_version(version) if version else None
    artifact = stage(upload, upload.parent)
    return catalogue.publish(
        artifact, INSPECTION, name=NAME, version=wanted, manifest=Manifest(), keep_default=keep_default
    )[0]


def theirs(mine: ModelVersion, version: str, ordinal: int = 1, digest: str = "") -> ModelVersion:
    """The same model as another node holds it."""
    return msgspec.structs.replace(
        mine, version=parse_version(version), ordinal=ordinal, folder="", digest=digest or mine.digest
    )


@pytest.fixture
def mine(catalogue: Catalogue) -> ModelVersion:
    return publish(catalogue, b"a")


def test_a_version_that_lies_elsewhere_is_found_here(catalogue: Catalogue, mine: ModelVersion) -> None:
    there = theirs(mine, "2.0.0", 2)
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(there,), holders={there.version: ("b",)})})
    assert catalogue.resolve("acme/digits") == there
    assert catalogue.holders(there) == ("b",)
    assert catalogue.holders(mine) == ()
    assert [str(v.version) for v in catalogue.entry(NAME).versions] == ["1.0.0", "2.0.0"]
    catalogue.put_elsewhere({NAME: None})
    assert catalogue.resolve("acme/digits") == mine


def test_what_is_lost_is_meant_where_it_is_asked_for_or_nothing_else_is_there(
    catalogue: Catalogue, mine: ModelVersion
) -> None:
    lost = theirs(mine, "2.0.0", 2)
    catalogue.put_elsewhere({NAME: Elsewhere(lost=(lost,), aliases={"prod": "2.0.0"})})
    assert catalogue.resolve("acme/digits") == mine
    assert catalogue.resolve("acme/digits", "2.0.0") == catalogue.resolve("acme/digits", "prod") == lost
    assert catalogue.holders(lost) == ()
    assert catalogue.resolve("acme/digits", "latest") == mine
    assert catalogue.resolve("acme/digits", "2") == lost
    other = parse_name("acme/other")
    alone = msgspec.structs.replace(lost, name=other)
    catalogue.put_elsewhere({other: Elsewhere(lost=(alone,))})
    assert catalogue.resolve("acme/other") == alone
    catalogue.put_elsewhere({other: None})
    with pytest.raises(NotFoundError):
        catalogue.resolve("acme/other")


def test_what_is_lost_and_lies_here_too_is_here(catalogue: Catalogue, mine: ModelVersion) -> None:
    catalogue.put_elsewhere({NAME: Elsewhere(lost=(theirs(mine, "1.0.0"),))})
    assert catalogue.resolve("acme/digits", "1.0.0") == mine


def test_what_lies_elsewhere_is_no_artifact_of_this_node(catalogue: Catalogue, mine: ModelVersion) -> None:
    there = theirs(mine, "2.0.0", 2, digest="f" * 64)
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(there,))})
    assert catalogue.digests() == {mine.digest}
    assert [entry.versions for entry in catalogue.held()] == [(mine,)]
    assert catalogue.own(mine) == mine
    assert catalogue.own(there) is None
    with pytest.raises(NotFoundError):
        catalogue.delete(NAME, "2.0.0")


def test_the_next_version_comes_behind_the_whole_meshs(catalogue: Catalogue, mine: ModelVersion) -> None:
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(theirs(mine, "3.4.0", 7, digest="f" * 64),))})
    made = publish(catalogue, b"b")
    assert (str(made.version), made.ordinal) == ("3.5.0", 8)


def test_a_version_with_other_content_elsewhere_is_refused(catalogue: Catalogue, mine: ModelVersion) -> None:
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(theirs(mine, "2.0.0", 2, digest="f" * 64),))})
    with pytest.raises(ConflictError, match="exists with other content"):
        publish(catalogue, b"b", "2.0.0")


def test_what_is_deployed_again_becomes_a_copy_of_what_lies_elsewhere(catalogue: Catalogue, mine: ModelVersion) -> None:
    incoming = catalogue.new_incoming() / "upload"
    incoming.write_bytes(b"\x08\x0ab")
    digest = stage(incoming, incoming.parent).digest
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(theirs(mine, "2.0.0", 5, digest=digest),))})
    made = publish(catalogue, b"b", "2.0.0")
    assert (made.folder != "", made.ordinal) == (True, 5)


def test_ordinals_are_those_that_the_mesh_agreed_on(catalogue: Catalogue, mine: ModelVersion) -> None:
    there = theirs(mine, "0.9.0", 1, digest="f" * 64)
    ordinals = {there.version: 1, mine.version: 2}
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(there,), ordinals=ordinals)})
    assert catalogue.resolve("acme/digits", "2", by_ordinal=True).version == mine.version
    assert catalogue.resolve("acme/digits", "1", by_ordinal=True).version == there.version


ALIASES = [
    ({}, {"prod": "1.0.0"}, {"prod": "1.0.0"}),
    ({"prod": "1.0.0"}, {"prod": "2.0.0"}, {"prod": "2.0.0"}),
    ({"prod": "1.0.0"}, {"prod": ""}, {}),
    ({"prod": "1.0.0"}, {"prod": "9.9.9"}, {}),
]


@pytest.mark.parametrize(("own", "told", "seen"), ALIASES)
def test_aliases_of_the_mesh_come_first(
    catalogue: Catalogue, mine: ModelVersion, own: dict[str, str], told: dict[str, str], seen: dict[str, str]
) -> None:
    for alias, version in own.items():
        catalogue.set_alias(NAME, alias, version)
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(theirs(mine, "2.0.0", 2),), aliases=told)})
    assert {alias: str(version) for alias, version in catalogue.entry(NAME).aliases.items()} == seen


def test_what_was_removed_in_the_mesh_is_not_found_though_it_lies_here(
    catalogue: Catalogue, mine: ModelVersion
) -> None:
    catalogue.put_elsewhere({NAME: Elsewhere(removed=frozenset({mine.version}))})
    with pytest.raises(NotFoundError):
        catalogue.resolve("acme/digits")
    assert not catalogue.has_model(NAME)


def test_a_conflict_is_told(catalogue: Catalogue, mine: ModelVersion) -> None:
    catalogue.put_elsewhere({NAME: Elsewhere(conflicts={Version(1, 0, 0): "two nodes differ"})})
    assert catalogue.conflict(mine) == "two nodes differ"


def test_hundreds_of_changes_are_one_generation(catalogue: Catalogue, mine: ModelVersion) -> None:
    many: dict[ModelName, Elsewhere | None] = {}
    for number in range(300):
        name = parse_name(f"acme/m{number}")
        many[name] = Elsewhere(versions=(msgspec.structs.replace(theirs(mine, "1.0.0"), name=name),))
    before = catalogue.generation
    catalogue.put_elsewhere(many)
    assert catalogue.generation == before + 1
    assert catalogue.model_count == 301


def test_a_canary_leaves_the_default_that_lies_elsewhere(catalogue: Catalogue, mine: ModelVersion) -> None:
    catalogue.delete(NAME)
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(mine_there := theirs(mine, "1.0.0"),))})
    told: list[tuple[str, str]] = []
    catalogue.on_wish = lambda _kind, _name, key, value: told.append((key, value))
    made = publish(catalogue, b"b", keep_default=True)
    assert str(made.version) == "1.1.0"
    assert catalogue.resolve("acme/digits") == mine_there
    assert told == [("default", "1.0.0")]


def test_an_alias_is_read_where_it_was_set_before_the_mesh_says_it(catalogue: Catalogue, mine: ModelVersion) -> None:
    newer = publish(catalogue, b"b")
    ordinals = {mine.version: 1, newer.version: 2}
    catalogue.put_elsewhere({NAME: Elsewhere(ordinals=ordinals, aliases={"default": "1.1.0"})})
    catalogue.set_alias(NAME, "default", "1.0.0")
    assert catalogue.resolve("acme/digits") == mine
    catalogue.set_alias(NAME, "default", "1.1.0")
    assert catalogue.rollback(NAME) == mine
    assert catalogue.resolve("acme/digits") == mine


def test_nothing_is_rolled_back_to_what_is_lost(catalogue: Catalogue, mine: ModelVersion) -> None:
    publish(catalogue, b"b", "2.0.0")
    lost = theirs(mine, "1.5.0", 3, digest="f" * 64)
    told = Elsewhere(lost=(lost,), aliases={"default": "2.0.0"}, earlier=("1.0.0", "1.5.0"))
    catalogue.put_elsewhere({NAME: told})
    assert catalogue.rollback(NAME) == mine
    assert catalogue.resolve("acme/digits") == mine


def test_what_was_deployed_on_another_node_is_rolled_back_on_any(catalogue: Catalogue, mine: ModelVersion) -> None:
    there = theirs(mine, "1.1.0", 2, digest="f" * 64)
    catalogue.put_elsewhere({NAME: Elsewhere(versions=(there,))})
    assert catalogue.rollback(NAME) == mine
    catalogue.delete(NAME)
    both = (theirs(mine, "1.0.0"), there)
    catalogue.put_elsewhere({NAME: Elsewhere(versions=both)})
    assert str(catalogue.rollback(NAME).version) == "1.0.0"
    with pytest.raises(ConflictError, match=r"no earlier default than 1\.0\.0 that this node knows of"):
        catalogue.rollback(NAME)


def test_a_default_that_was_set_on_one_node_is_rolled_back_on_any(catalogue: Catalogue, mine: ModelVersion) -> None:
    publish(catalogue, b"b")
    told: dict[str, str] = {}
    catalogue.on_wish = lambda kind, _name, _key, value: told.update({kind: value})
    catalogue.set_alias(NAME, "default", "1.0.0")
    assert told == {"alias": "1.0.0", "earlier": '["1.0.0","1.1.0"]'}
    catalogue.delete(NAME)  # from here on it is another node, on whose disk nothing of the model lies
    both = (theirs(mine, "1.0.0"), theirs(mine, "1.1.0", 2, digest="f" * 64))
    history = ("0.9.0", "1.0.0", "1.1.0", "1.0.0")  # of which 0.9.0 was deleted
    catalogue.put_elsewhere({NAME: Elsewhere(versions=both, aliases={"default": "1.0.0"}, earlier=history)})
    assert str(catalogue.rollback(NAME).version) == "1.1.0"
    assert told == {"alias": "1.1.0", "earlier": '["0.9.0","1.0.0"]'}
    assert str(catalogue.rollback(NAME).version) == "1.0.0"
    with pytest.raises(ConflictError, match=r"say which you want, as in `ingle alias acme/digits default 1\.0\.0`"):
        catalogue.rollback(NAME)


def test_what_is_wished_of_a_model_that_lies_elsewhere_is_kept_once_it_lies_here_too(
    catalogue: Catalogue, mine: ModelVersion
) -> None:
    catalogue.delete(NAME)
    both = (theirs(mine, "1.0.0"), theirs(mine, "1.1.0", 2, digest="f" * 64))
    catalogue.put_elsewhere({NAME: Elsewhere(versions=both, aliases={"default": "1.0.0"})})
    traffic, scale = Traffic(canary="1.1.0", canary_share=0.5), Scale(min_replicas=1)
    catalogue.set_traffic(NAME, traffic, told=True)
    catalogue.set_scale(NAME, scale, told=True)
    assert (catalogue.traffic(NAME), catalogue.scale(NAME)) == (traffic, scale)
    publish(catalogue, b"a", "1.0.0")
    catalogue.exchange(lambda: None)
    assert (catalogue.traffic(NAME), catalogue.scale(NAME)) == (traffic, scale)


def test_a_canary_whose_nodes_are_out_of_reach_takes_no_call_until_one_is_back(
    catalogue: Catalogue, mine: ModelVersion
) -> None:
    there = Elsewhere(versions=(theirs(mine, "1.1.0", 2, digest="f" * 64),), aliases={"default": "1.0.0"})
    traffic = Traffic(canary="1.1.0", canary_share=0.5)
    catalogue.set_traffic(NAME, traffic, told=True)  # a wish may be heard of before the version
    assert catalogue.traffic(NAME) == Traffic()
    catalogue.put_elsewhere({NAME: there})
    assert catalogue.traffic(NAME) == traffic
    catalogue.put_elsewhere({NAME: None})
    assert catalogue.traffic(NAME) == Traffic()
    catalogue.put_elsewhere({NAME: Elsewhere(lost=there.versions, aliases=there.aliases)})
    assert catalogue.traffic(NAME) == Traffic()
    catalogue.put_elsewhere({NAME: there})
    assert catalogue.traffic(NAME) == traffic
