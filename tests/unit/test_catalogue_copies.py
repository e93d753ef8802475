"""Copies of what other nodes hold: the same version here, and nothing that callers get becomes another."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from appliance.catalogue.catalogue import CATALOGUE_FILE, Catalogue
from appliance.catalogue.elsewhere import Elsewhere
from appliance.core.errors import ConflictError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.versions import parse_version
from tests.unit.test_catalogue import INSPECTION, NAME, staged


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Catalogue]:
    catalogue = Catalogue(tmp_path / "here")
    yield catalogue
    catalogue.close()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Catalogue]:
    catalogue = Catalogue(tmp_path / "there")
    yield catalogue
    catalogue.close()


def _deploy(catalogue: Catalogue, content: bytes, version: str) -> ModelVersion:
    made, _ = catalogue.publish(
        staged(catalogue, content),
        INSPECTION,
        name=NAME,
        version=parse_version(version),
        manifest=Manifest(description=version),
    )
    return made


def _copy(catalogue: Catalogue, model: ModelVersion, content: bytes) -> ModelVersion:
    return catalogue.publish_copy(model, staged(catalogue, content), INSPECTION)


def test_a_copy_is_the_version_that_it_is_elsewhere(here: Catalogue, there: Catalogue) -> None:
    model = _deploy(there, b"a", "1.4.0")
    copy = _copy(here, model, b"a")
    assert (copy.version, copy.ordinal, copy.created_s, copy.manifest) == (
        model.version,
        model.ordinal,
        model.created_s,
        model.manifest,
    )
    assert Path(copy.folder).is_relative_to(here.folder)
    assert here.files(model.digest) == there.files(model.digest)


def test_a_copy_that_is_here_is_not_made_again(here: Catalogue, there: Catalogue) -> None:
    model = _deploy(there, b"a", "1.0.0")
    copy = _copy(here, model, b"a")
    generation = here.generation
    assert _copy(here, model, b"a") == copy
    assert here.generation == generation


def test_a_copy_with_other_content_than_lies_here_is_a_conflict(here: Catalogue, there: Catalogue) -> None:
    model = _deploy(there, b"a", "1.0.0")
    own = _deploy(here, b"b", "1.0.0")
    with pytest.raises(ConflictError, match="other content"):
        _copy(here, model, b"a")
    assert here.resolve(str(NAME)) == own
    assert here.digests() == {own.digest}


def test_an_ordinal_that_is_taken_here_is_not_taken_twice(here: Catalogue, there: Catalogue) -> None:
    own = _deploy(here, b"a", "1.0.0")
    model = _deploy(there, b"b", "1.1.0")
    assert model.ordinal == own.ordinal
    assert _copy(here, model, b"b").ordinal != own.ordinal


def test_aliases_stay_where_they_point(here: Catalogue, there: Catalogue) -> None:
    own = _deploy(here, b"a", "1.0.0")
    here.set_alias(NAME, "default", "1.0.0")
    wishes: list[object] = []
    here.on_wish = lambda *wish: wishes.append(wish)
    _copy(here, _deploy(there, b"b", "2.0.0"), b"b")
    assert here.resolve(str(NAME)) == own
    assert wishes == []


def test_a_copy_outlives_the_node(here: Catalogue, there: Catalogue, tmp_path: Path) -> None:
    copy = _copy(here, _deploy(there, b"a", "1.0.0"), b"a")
    here.close()
    again = Catalogue(tmp_path / "here")
    assert again.resolve(str(NAME)) == copy
    again.close()


def _held_there(here: Catalogue, model: ModelVersion) -> None:
    told = msgspec.structs.replace(model, folder="")
    ordinals = {model.version: 1, parse_version("1.1.0"): 2}
    here.put_elsewhere({NAME: Elsewhere(versions=(told,), holders={model.version: ("there",)}, ordinals=ordinals)})


def test_what_the_mesh_copied_is_told_from_what_was_deployed(here: Catalogue, there: Catalogue, tmp_path: Path) -> None:
    model = _deploy(there, b"a", "1.0.0")
    _deploy(here, b"b", "1.1.0")
    copy = _copy(here, model, b"a")
    here.close()
    again = Catalogue(tmp_path / "here")
    assert again.copied() == [copy]
    _held_there(again, model)
    assert again.drop_copy(copy)
    assert again.copied() == []
    assert again.digests() == {again.resolve(str(NAME), "1.1.0").digest}
    assert not Path(copy.folder).exists()
    assert again.resolve(str(NAME), "1.0.0").folder == ""
    again.close()


def test_a_copy_that_is_deployed_here_too_is_dropped_no_more(here: Catalogue, there: Catalogue) -> None:
    model = _deploy(there, b"a", "1.0.0")
    copy = _copy(here, model, b"a")
    _held_there(here, model)
    assert _deploy(here, b"a", "1.0.0").digest == copy.digest
    assert here.copied() == []
    assert not here.drop_copy(copy)
    assert here.own(copy) is not None


def test_a_copy_that_nobody_else_is_known_to_hold_is_not_dropped(here: Catalogue, there: Catalogue) -> None:
    copy = _copy(here, _deploy(there, b"a", "1.0.0"), b"a")
    assert not here.drop_copy(copy)
    assert here.own(copy) is not None


def test_a_database_from_before_copies_were_marked_is_served_and_nothing_of_it_is_dropped(
    here: Catalogue, tmp_path: Path
) -> None:
    own = _deploy(here, b"a", "1.0.0")
    here.close()
    with closing(sqlite3.connect(tmp_path / "here" / CATALOGUE_FILE)) as connection:
        connection.executescript("DROP TABLE copied; PRAGMA user_version = 2")
    again = Catalogue(tmp_path / "here")
    assert again.resolve(str(NAME)) == own
    assert again.copied() == []
    again.close()
