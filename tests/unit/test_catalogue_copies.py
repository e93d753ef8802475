"""Copies of what other nodes hold: the same version here, and nothing that callers get becomes another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.catalogue.catalogue import Catalogue
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
