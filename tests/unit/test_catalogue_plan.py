"""What a deploy or a load makes of what exists, case by case."""

import pytest

from appliance.catalogue.index import ModelEntry, make_entry
from appliance.catalogue.plan import Offer, Place, plan
from appliance.core.errors import ConflictError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import parse_name
from appliance.core.tensors import Signature
from appliance.core.versions import Version, parse_version

NAME = parse_name("acme/digits")


def version(
    text: str, ordinal: int, digest: str, *, source: str = "deploy", manifest: Manifest | None = None
) -> ModelVersion:
    return ModelVersion(
        name=NAME,
        version=parse_version(text),
        ordinal=ordinal,
        digest=digest,
        folder="",
        size_bytes=1,
        signature=Signature((), ()),
        manifest=manifest or Manifest(),
        batchable=False,
        batch_reason="",
        created_s=0.0,
        source=source,
    )


def entry(*versions: ModelVersion) -> ModelEntry | None:
    return make_entry(versions, {}) if versions else None


def deploy(digest: str, asked: str = "", *, manifest: Manifest | None = None) -> Offer:
    return Offer(
        name=NAME,
        digest=digest,
        manifest=manifest or Manifest(),
        declared=manifest is not None,
        version=parse_version(asked) if asked else None,
    )


def load(digest: str, ordinal: int) -> Offer:
    return Offer(NAME, digest, Manifest(), declared=False, ordinal=ordinal, source="load")


DESCRIBED = Manifest(description="digits by hand")


@pytest.mark.parametrize(
    ("offer", "existing", "expected"),
    [
        # A deploy without a version takes the next minor, unless latest is the same.
        (deploy("a"), [], Place(Version(1, 0, 0), 1)),
        (deploy("b"), [version("1.0.0", 1, "a")], Place(Version(1, 1, 0), 2)),
        (deploy("a"), [version("1.0.0", 1, "a")], "1.0.0"),
        (deploy("a", manifest=DESCRIBED), [version("1.0.0", 1, "a")], Place(Version(1, 1, 0), 2)),
        (deploy("a"), [version("1.0.0", 1, "a"), version("1.1.0", 2, "b")], Place(Version(1, 2, 0), 3)),
        (deploy("a"), [version("2.0.0-rc.1", 1, "b"), version("1.0.0", 2, "a")], "1.0.0"),
        (deploy("b"), [version("2.0.0-rc.1", 1, "b"), version("1.0.0", 2, "a")], Place(Version(2, 1, 0), 3)),
        (deploy("b"), [version("1.0.0", 7, "a")], Place(Version(1, 1, 0), 8)),
        # A deploy of a version makes it, or finds it there the same.
        (deploy("a", "1.2.3"), [], Place(Version(1, 2, 3), 1)),
        (deploy("b", "0.9.0"), [version("1.0.0", 1, "a")], Place(Version(0, 9, 0), 2)),
        (deploy("a", "1.0.0"), [version("1.0.0", 1, "a")], "1.0.0"),
        (deploy("a", "1.0.0"), [version("1.0.0", 1, "a", manifest=DESCRIBED)], "1.0.0"),
        (deploy("a", "1.0.0", manifest=DESCRIBED), [version("1.0.0", 1, "a", manifest=DESCRIBED)], "1.0.0"),
        # A load makes the ordinal it names, over what a load made.
        (load("a", 1), [], Place(Version(1, 0, 0), 1)),
        (load("a", 3), [version("1.0.0", 1, "a")], Place(Version(3, 0, 0), 3)),
        (load("b", 1), [version("1.0.0", 1, "a", source="load")], Place(Version(1, 0, 0), 1)),
        (load("a", 1), [version("1.0.0", 1, "a", source="load")], "1.0.0"),
        (load("a", 1), [version("1.0.0", 1, "a", manifest=DESCRIBED)], "1.0.0"),
    ],
)
def test_a_deploy_or_load_goes_where_it_belongs(
    offer: Offer, existing: list[ModelVersion], expected: Place | str
) -> None:
    last_ordinal = max((v.ordinal for v in existing), default=0)
    planned = plan(offer, entry(*existing), last_ordinal)
    assert (str(planned.version) if isinstance(planned, ModelVersion) else planned) == expected


@pytest.mark.parametrize(
    ("offer", "existing", "sentence"),
    [
        (deploy("b", "1.0.0"), [version("1.0.0", 1, "a")], "other content"),
        (deploy("a", "1.0.0", manifest=DESCRIBED), [version("1.0.0", 1, "a")], "another manifest"),
        (deploy("b", "1.0.0"), [version("1.0.0", 1, "a", source="load")], "other content"),
        (load("b", 1), [version("1.0.0", 1, "a")], "was deployed"),
        (load("b", 2), [version("1.0.0", 1, "a"), version("1.1.0", 2, "b")], "was deployed"),
        (load("b", 2), [version("2.0.0", 1, "b", source="load")], "was deployed"),
    ],
)
def test_what_was_deployed_is_never_replaced(offer: Offer, existing: list[ModelVersion], sentence: str) -> None:
    with pytest.raises(ConflictError, match=sentence):
        plan(offer, entry(*existing), 9)


def test_a_manifests_own_name_and_version_make_no_difference_between_two_deploys() -> None:
    stored = version("1.0.0", 1, "a", manifest=Manifest(name="digits", version="1.0.0", description="x"))
    planned = plan(deploy("a", manifest=Manifest(description="x")), entry(stored), 1)
    assert planned is stored


def test_an_ordinal_of_a_deleted_version_is_not_given_again() -> None:
    assert plan(deploy("b"), entry(version("1.0.0", 1, "a")), 5) == Place(Version(1, 1, 0), 6)
