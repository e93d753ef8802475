"""The catalogue over a real folder: what is published is found, after a restart too; what is gone leaves nothing."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import StagedArtifact, stage
from appliance.core.errors import (
    BadInputError,
    ConflictError,
    IngleError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from appliance.core.manifest import ImageInput, Limits, Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import parse_name
from appliance.core.tensors import Signature, TensorSpec
from appliance.core.traffic import Traffic
from appliance.core.versions import Version

NAME = parse_name("acme/digits")
SPEC = TensorSpec("x", "FP32", (-1, 4), ("batch", ""), optional=True)
INSPECTION = Inspection(Signature((SPEC,), (SPEC,)), True, "its first dimension is free")
Deploy = Callable[..., ModelVersion]


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    catalogue = Catalogue(tmp_path)
    yield catalogue
    catalogue.close()


def staged(catalogue: Catalogue, content: bytes) -> StagedArtifact:
    """A staged file that begins as a model does; the catalogue never opens it."""
    incoming = catalogue.new_incoming()
    upload = incoming / "upload"
    upload.write_bytes(b"\x08\x0a" + content)
    return stage(upload, incoming)


@pytest.fixture
def deploy(catalogue: Catalogue) -> Deploy:
    def deploy(content: bytes = b"a", name: str = "acme/digits", **options: object) -> ModelVersion:
        arguments = {"version": None, "manifest": Manifest()} | options
        artifact = staged(catalogue, content)
        return catalogue.publish(artifact, INSPECTION, name=parse_name(name), **arguments)[0]  # type: ignore[arg-type]

    return deploy


def test_what_was_published_is_the_same_after_a_restart(catalogue: Catalogue, deploy: Deploy, tmp_path: Path) -> None:
    manifest = Manifest(
        description="Ziffern, 数字",
        tags=("vision",),
        input=(ImageInput(name="x", size=(28, 28), mean=(0.5,)),),
        labels=("zero", "one"),
        sample={"x": [[1, 2.5]]},
        limits=Limits(memory_bytes=10, run_s=0.5),
        permissions={"network": False},
    )
    made = deploy(manifest=manifest)
    deploy(b"b")
    catalogue.set_alias(NAME, "prod", "1.0.0")
    before = catalogue.search()
    catalogue.close()

    again = Catalogue(tmp_path)
    assert again.search() == before
    assert again.resolve("acme/digits", "prod") == made
    assert again.files(made.digest) == {"model.onnx": made.digest}
    assert (Path(made.folder) / "model.onnx").read_bytes() == b"\x08\x0aa"
    again.close()


@pytest.mark.parametrize(
    ("asked", "by_ordinal", "expected"),
    [
        ("", False, "1.1.0"),
        ("latest", False, "1.1.0"),
        ("1.0.0", False, "1.0.0"),
        ("1.0", False, "1.0.0"),
        ("1", False, "1.1.0"),
        ("2.0.0-rc.1", False, "2.0.0-rc.1"),
        ("prod", False, "1.0.0"),
        ("1", True, "1.0.0"),
        ("2", True, "1.1.0"),
        ("3", True, "2.0.0-rc.1"),
        ("1.1.0", True, "1.1.0"),
    ],
)
def test_a_version_is_found_by_each_of_its_words(
    catalogue: Catalogue, deploy: Deploy, asked: str, by_ordinal: bool, expected: str
) -> None:
    deploy(b"a")
    deploy(b"b")
    deploy(b"c", version=Version(2, 0, 0, "rc.1"))
    catalogue.set_alias(NAME, "prod", "1.0.0")
    assert str(catalogue.resolve("acme/digits", asked, by_ordinal=by_ordinal).version) == expected


@pytest.mark.parametrize("asked", ["3", "1.9", "9.9.9", "nobody", "1.0.0.0", "²", "١", "-1", "x" * 9999, "../etc"])
def test_an_unknown_version_is_answered_with_those_that_exist(catalogue: Catalogue, deploy: Deploy, asked: str) -> None:
    deploy()
    catalogue.set_alias(NAME, "prod", "1.0.0")
    for by_ordinal in (False, True):
        with pytest.raises(NotFoundError, match=r"it has 1\.0\.0, prod \(1\.0\.0\)"):
            catalogue.resolve("acme/digits", asked, by_ordinal=by_ordinal)


@pytest.mark.parametrize("model", ["acme/nothing", "digits", "", "a/b/c", "../..", "ready", "\0", "x" * 9999])
def test_an_unknown_model_is_not_found_whatever_its_name(catalogue: Catalogue, deploy: Deploy, model: str) -> None:
    deploy()
    with pytest.raises(NotFoundError):
        catalogue.resolve(model)


def test_a_bare_name_is_the_local_owners(catalogue: Catalogue, deploy: Deploy) -> None:
    made = deploy(name="digits")
    assert catalogue.resolve("digits") == catalogue.resolve("local/digits") == made


def test_the_same_upload_again_does_nothing(catalogue: Catalogue, deploy: Deploy) -> None:
    made = deploy()
    generation = catalogue.generation
    again, created = catalogue.publish(
        staged(catalogue, b"a"), INSPECTION, name=NAME, version=None, manifest=Manifest()
    )
    assert (again, created, catalogue.generation) == (made, False, generation)


def test_a_damaged_artifact_is_made_whole_by_deploying_it_again(catalogue: Catalogue, deploy: Deploy) -> None:
    made = deploy()
    (Path(made.folder) / "model.onnx").unlink()
    deploy()
    assert (Path(made.folder) / "model.onnx").read_bytes() == b"\x08\x0aa"


def test_models_of_the_same_content_share_one_artifact_until_the_last_goes(
    catalogue: Catalogue, deploy: Deploy
) -> None:
    one, two = deploy(name="acme/one"), deploy(name="acme/two")
    assert one.folder == two.folder
    catalogue.delete(one.name)
    assert (Path(two.folder) / "model.onnx").exists()
    catalogue.delete(two.name)
    assert not Path(two.folder).exists()
    assert catalogue.search() == []
    with pytest.raises(NotFoundError):
        catalogue.files(two.digest)


def test_a_load_replaces_what_a_load_made_and_its_artifact(catalogue: Catalogue, deploy: Deploy) -> None:
    first = deploy(b"a", source="load", ordinal=5)
    catalogue.set_alias(NAME, "prod", "5.0.0")
    second = deploy(b"b", source="load", ordinal=5)
    assert (str(second.version), second.ordinal, second.source) == ("5.0.0", 5, "load")
    assert catalogue.entry(NAME).versions == (second,)
    assert catalogue.resolve("acme/digits", "prod") == second
    assert not Path(first.folder).exists()
    assert deploy(b"c").ordinal == 6


def test_ordinals_are_not_given_twice(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(b"a")
    deploy(b"b")
    catalogue.delete(NAME, "1.1.0")
    assert deploy(b"c").ordinal == 3


def test_rollback_goes_one_further_back_each_time(catalogue: Catalogue, deploy: Deploy) -> None:
    for content in (b"a", b"b", b"c"):
        deploy(content)
    assert str(catalogue.rollback(NAME).version) == "1.1.0"
    assert str(catalogue.rollback(NAME).version) == "1.0.0"
    assert str(catalogue.resolve("acme/digits").version) == "1.0.0"
    with pytest.raises(ConflictError, match="no earlier default"):
        catalogue.rollback(NAME)
    assert str(catalogue.resolve("acme/digits").version) == "1.0.0"


def test_rollback_undoes_a_default_that_was_set(catalogue: Catalogue, deploy: Deploy, tmp_path: Path) -> None:
    deploy(b"a")
    deploy(b"b")
    catalogue.set_alias(NAME, "default", "1.0.0")
    catalogue.close()
    again = Catalogue(tmp_path)
    assert str(again.rollback(NAME).version) == "1.1.0"
    again.close()


def test_rollback_passes_over_versions_that_were_deleted(catalogue: Catalogue, deploy: Deploy) -> None:
    for content in (b"a", b"b", b"c"):
        deploy(content)
    catalogue.delete(NAME, "1.1.0")
    assert str(catalogue.rollback(NAME).version) == "1.0.0"


def test_a_default_that_is_set_stays_when_more_is_deployed(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(b"a")
    catalogue.set_alias(NAME, "default", "latest")
    deploy(b"b")
    assert str(catalogue.entry(NAME).default.version) == "1.0.0"
    catalogue.delete_alias(NAME, "default")
    assert str(catalogue.entry(NAME).default.version) == "1.1.0"


def test_an_alias_goes_with_the_version_it_points_at(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(b"a")
    deploy(b"b")
    catalogue.set_alias(NAME, "prod", "1.1.0")
    catalogue.delete(NAME, "prod")
    assert catalogue.entry(NAME).aliases == {}
    assert [str(v.version) for v in catalogue.entry(NAME).versions] == ["1.0.0"]


@pytest.mark.parametrize("alias", ["1.0", "latest", "", "a b", "../x", "9lives"])
def test_what_could_be_a_version_is_no_alias(catalogue: Catalogue, deploy: Deploy, alias: str) -> None:
    deploy()
    with pytest.raises(BadInputError, match="cannot be an alias"):
        catalogue.set_alias(NAME, alias, "1.0.0")


def test_aliases_need_a_version_and_deleting_needs_an_alias(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy()
    with pytest.raises(NotFoundError):
        catalogue.set_alias(NAME, "prod", "2.0.0")
    with pytest.raises(NotFoundError, match="it has none"):
        catalogue.delete_alias(NAME, "prod")


def test_a_deletion_says_exactly_what_it_deletes(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(b"a")
    with pytest.raises(BadInputError, match="does not say exactly"):
        catalogue.delete(NAME, "1")
    assert [str(v) for v in catalogue.delete(NAME, "latest")] == ["acme/digits:1.0.0"]
    with pytest.raises(NotFoundError):
        catalogue.delete(NAME)


@pytest.mark.parametrize(
    ("query", "tag", "expected"),
    [
        ("", "", ["acme/cats", "acme/digits", "zoo/cats"]),
        ("CATS", "", ["acme/cats", "zoo/cats"]),
        ("acme hand", "", ["acme/digits"]),
        ("tabby", "", ["zoo/cats"]),
        ("", "Vision", ["acme/digits", "zoo/cats"]),
        ("", "vis", []),
        ("nowhere", "", []),
    ],
)
def test_search_finds_words_and_tags(
    catalogue: Catalogue, deploy: Deploy, query: str, tag: str, expected: list[str]
) -> None:
    deploy(name="zoo/cats", manifest=Manifest(tags=("vision",), labels=("tabby", "lynx")))
    deploy(name="acme/digits", manifest=Manifest(description="Digits by hand", tags=("Vision",)))
    deploy(name="acme/cats")
    assert [str(entry.name) for entry in catalogue.search(query, tag)] == expected


def test_models_are_walked_by_name_from_any_place(catalogue: Catalogue, deploy: Deploy) -> None:
    for name in ("b/b", "a/z", "b/a", "a/a"):
        deploy(name=name)
    catalogue.delete(parse_name("a/z"))
    assert [str(entry.name) for entry in catalogue.walk()] == ["a/a", "b/a", "b/b"]
    assert [str(entry.name) for entry in catalogue.walk(parse_name("a/z"))] == ["b/a", "b/b"]
    assert list(catalogue.walk(parse_name("b/b"))) == []
    assert catalogue.model_count == 3


def test_a_walk_shows_the_world_in_which_it_began(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(name="a/a")
    deploy(name="a/c")
    walk = catalogue.walk()
    assert str(next(walk).name) == "a/a"
    deploy(name="a/b")
    catalogue.delete(parse_name("a/c"))
    assert [str(entry.name) for entry in walk] == ["a/c"]


def test_what_versions_have_in_common_is_one_object(catalogue: Catalogue, deploy: Deploy, tmp_path: Path) -> None:
    labels = tuple(f"label {number}" for number in range(50))
    for name, words in (("a/a", "same"), ("a/b", "same"), ("a/c", "other")):
        deploy(name=name, manifest=Manifest(description=words, labels=labels))
    catalogue.close()
    again = Catalogue(tmp_path)
    one, two, three = (entry.default for entry in again.search())
    again.close()
    assert one.manifest is two.manifest
    assert one.signature is three.signature
    assert one.digest is three.digest
    assert one.folder is three.folder
    assert one.manifest.labels is three.manifest.labels == labels
    assert three.manifest.description == "other"


def test_the_generation_grows_with_each_write_and_reads_follow(catalogue: Catalogue, deploy: Deploy) -> None:
    seen = [catalogue.generation]
    deploy(b"a")
    assert str(catalogue.resolve("acme/digits").version) == "1.0.0"
    seen.append(catalogue.generation)
    deploy(b"b")
    assert str(catalogue.resolve("acme/digits").version) == "1.1.0"
    seen.append(catalogue.generation)
    catalogue.delete(NAME)
    with pytest.raises(NotFoundError):
        catalogue.resolve("acme/digits")
    seen.append(catalogue.generation)
    assert seen == sorted(set(seen))


def test_deploys_from_many_threads_each_make_one_version(catalogue: Catalogue) -> None:
    artifacts = [staged(catalogue, bytes([n])) for n in range(8)]
    publish = [
        threading.Thread(
            target=catalogue.publish,
            args=(a, INSPECTION),
            kwargs={"name": NAME, "version": None, "manifest": Manifest()},
        )
        for a in artifacts
    ]
    for thread in publish:
        thread.start()
    for thread in publish:
        thread.join()
    versions = catalogue.entry(NAME).versions
    assert [v.ordinal for v in versions] == list(range(1, 9))
    assert {v.digest for v in versions} == {a.digest for a in artifacts}


def test_a_manifest_that_cannot_be_read_back_is_refused_before_anything_is_kept(
    catalogue: Catalogue, deploy: Deploy
) -> None:
    with pytest.raises(RefusedError, match="finite"):
        deploy(manifest=Manifest(input=(ImageInput(name="x", scale=float("nan")),)))
    assert catalogue.search() == []


def test_a_start_removes_what_a_cut_deploy_left(catalogue: Catalogue, deploy: Deploy, tmp_path: Path) -> None:
    kept = deploy(b"a")
    gone = tmp_path / "artifacts/00" / ("0" * 64)
    gone.mkdir(parents=True)
    (gone / "model.onnx").write_bytes(b"x")
    staged(catalogue, b"never published")
    catalogue.close()
    Catalogue(tmp_path).close()
    assert not gone.exists()
    assert list((tmp_path / "incoming").iterdir()) == []
    assert (Path(kept.folder) / "model.onnx").exists()


def test_artifacts_are_kept_aside_when_the_database_is_gone(
    catalogue: Catalogue, deploy: Deploy, tmp_path: Path
) -> None:
    made = deploy()
    catalogue.close()
    for path in tmp_path.glob("catalogue.sqlite*"):
        path.unlink()
    again = Catalogue(tmp_path)
    assert again.search() == []
    assert (tmp_path / "artifacts-without-catalogue-1" / made.digest[:2] / made.digest / "model.onnx").exists()
    again.close()


def test_a_damaged_database_is_a_sentence_and_stays_as_it_is(tmp_path: Path) -> None:
    content = b"this is no database, whatever it was before" * 100
    (tmp_path / "catalogue.sqlite").write_bytes(content)
    catalogue = Catalogue(tmp_path)
    assert "catalogue.sqlite is damaged" in catalogue.fault
    assert catalogue.search() == []
    catalogue.close()
    assert (tmp_path / "catalogue.sqlite").read_bytes() == content


def test_damage_in_the_middle_of_a_database_is_found_at_the_start(
    catalogue: Catalogue, deploy: Deploy, tmp_path: Path
) -> None:
    deploy(manifest=Manifest(labels=tuple(f"label {n}" for n in range(5000))))
    catalogue.close()
    database = tmp_path / "catalogue.sqlite"
    content = bytearray(database.read_bytes())
    content[4096:-4096] = b"\xa5" * (len(content) - 8192)
    database.write_bytes(content)
    again = Catalogue(tmp_path)
    assert "catalogue.sqlite is damaged" in again.fault
    again.close()


def test_a_database_of_a_later_version_is_left_alone(catalogue: Catalogue, tmp_path: Path) -> None:
    catalogue.close()
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(IngleError, match="later version of Ingle"):
        Catalogue(tmp_path)


def test_a_row_of_another_form_is_a_sentence_and_the_others_are_served(
    catalogue: Catalogue, deploy: Deploy, tmp_path: Path
) -> None:
    deploy()
    deploy(name="acme/other")
    catalogue.close()
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as connection:
        connection.execute("UPDATE version SET manifest = '{\"unheard_of\": 1}' WHERE name = 'digits'")
    connection.close()
    again = Catalogue(tmp_path)
    assert "acme/digits:1.0.0 in a form" in again.fault
    assert [str(entry.name) for entry in again.search()] == ["acme/other"]
    again.close()


def test_a_database_that_another_process_holds_is_a_sentence_and_changes_nothing(
    catalogue: Catalogue, deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(b"a")
    catalogue.close()
    monkeypatch.setattr("appliance.core.database.LOCK_WAIT_S", 0.0)
    held = Catalogue(tmp_path)
    other = sqlite3.connect(tmp_path / "catalogue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    before = held.search(), held.generation
    with pytest.raises(UnavailableError, match="in use by another process"):
        held.set_alias(NAME, "prod", "1.0.0")
    other.execute("ROLLBACK")
    other.close()
    assert (held.search(), held.generation) == before
    held.set_alias(NAME, "prod", "1.0.0")
    held.close()


def test_a_data_folder_that_is_a_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(IngleError, match="check the data folder"):
        Catalogue(tmp_path / "file")


def test_only_incoming_folders_are_discarded(catalogue: Catalogue, tmp_path: Path) -> None:
    incoming = catalogue.new_incoming()
    (incoming / "upload").write_bytes(b"x")
    precious = tmp_path / "precious"
    precious.mkdir()
    catalogue.discard(incoming)
    catalogue.discard(precious)
    assert not incoming.exists()
    assert precious.exists()


def test_an_entry_can_be_written_as_json(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy()
    text = msgspec.json.decode(msgspec.json.encode(catalogue.entry(NAME)))
    assert text["versions"][0]["ordinal"] == 1


def test_a_deploy_that_the_database_turns_down_leaves_no_artifact(
    catalogue: Catalogue, deploy: Deploy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = deploy(b"a")
    monkeypatch.setattr("appliance.core.database.LOCK_WAIT_S", 0.0)
    held = Catalogue(tmp_path)
    artifact = staged(held, b"b")
    other = sqlite3.connect(tmp_path / "catalogue.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UnavailableError):
        held.publish(artifact, INSPECTION, name=NAME, version=None, manifest=Manifest())
    other.close()
    assert [path.name for path in tmp_path.glob("artifacts/*/*")] == [made.digest]
    held.close()


def test_a_canary_is_never_the_default_and_stays_none_when_more_is_deployed(
    catalogue: Catalogue, deploy: Deploy
) -> None:
    seen = []
    deploy(b"one")
    entry = catalogue.entry(NAME)
    deploy(b"two", keep_default=True)
    seen.append(str(catalogue.entry(NAME).default.version))
    deploy(b"three")
    seen.append(str(catalogue.entry(NAME).default.version))
    assert (str(entry.default.version), seen) == ("1.0.0", ["1.0.0", "1.0.0"])
    assert catalogue.entry(NAME).aliases == {"default": Version(1, 0, 0)}


def test_a_first_version_is_the_default_whatever_was_asked(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(b"one", keep_default=True)
    assert catalogue.entry(NAME).aliases == {}


@pytest.mark.parametrize(
    ("wish", "then"),
    [
        (
            Traffic(canary="1.1.0", canary_share=0.1, max_error_share=0.1, shadow="1.2.0", shadow_share=0.5),
            Traffic(shadow="1.2.0", shadow_share=0.5),
        ),
        (Traffic(canary="1.2.0", canary_share=0.1, shadow="1.1.0"), Traffic(canary="1.2.0", canary_share=0.1)),
        (Traffic(canary="1.2.0", canary_share=0.1), Traffic(canary="1.2.0", canary_share=0.1)),
    ],
)
def test_what_becomes_the_default_is_neither_on_trial_nor_a_shadow_any_more(
    catalogue: Catalogue, deploy: Deploy, wish: Traffic, then: Traffic
) -> None:
    for content in (b"one", b"two", b"three"):
        deploy(content)
    catalogue.set_alias(NAME, "default", "1.0.0")
    catalogue.set_traffic(NAME, wish)
    catalogue.set_alias(NAME, "default", "1.1.0")
    assert catalogue.traffic(NAME) == then


def test_a_version_that_is_deleted_is_on_trial_no_more_and_calls_go_on(
    catalogue: Catalogue, deploy: Deploy, tmp_path: Path
) -> None:
    for content in (b"one", b"two", b"three"):
        deploy(content)
    catalogue.set_alias(NAME, "default", "1.0.0")
    wish = Traffic(canary="1.1.0", canary_share=0.1, shadow="1.2.0", max_error_share=0.1)
    catalogue.set_traffic(NAME, wish)
    catalogue.delete(NAME, "1.1.0")
    assert catalogue.traffic(NAME) == Traffic(shadow="1.2.0")
    catalogue.delete(NAME, "1.2.0")
    assert (catalogue.traffic(NAME), catalogue.traffics()) == (Traffic(), {})
    catalogue.close()
    reopened = Catalogue(tmp_path)
    assert reopened.traffics() == {}
    reopened.close()


def test_a_rollback_to_what_is_on_trial_ends_the_trial(catalogue: Catalogue, deploy: Deploy) -> None:
    deploy(b"one")
    deploy(b"two")
    catalogue.set_alias(NAME, "default", "1.0.0")  # from 1.1.0, which was the highest
    catalogue.set_traffic(NAME, Traffic(canary="1.1.0", canary_share=0.1, return_to="1.0.0", max_error_share=0.5))
    catalogue.rollback(NAME)
    assert catalogue.traffic(NAME) == Traffic(return_to="1.0.0", max_error_share=0.5)
