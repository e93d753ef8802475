"""What other nodes of the mesh hold, laid over what this node holds: one entry for a model, wherever its versions lie.

Pure. The mesh says what there is elsewhere (Catalogue.put_elsewhere()); a version that is not on this node's disk has
an empty `folder`.
"""

from collections.abc import Mapping, Sequence

import msgspec

from appliance.catalogue.index import ModelEntry, make_entry
from appliance.core.models import ModelVersion
from appliance.core.versions import Version


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """One model as the rest of the mesh knows it.

    `versions` lie on other nodes (they may lie here too); `holders` are the ids of the nodes that hold each. `lost` lie
    on nodes alone that were lost a moment ago.
    `ordinals` are those that all nodes agreed on; `aliases` come before this node's own, an empty one takes one away.
    `conflicts`: versions that nodes hold with different content, and the sentence that says so. `removed` were deleted
    in the mesh and are on their way out here. `earlier`: what the default was before, the latest last; None where it
    was never set in the mesh.
    """

    versions: tuple[ModelVersion, ...] = ()
    holders: dict[Version, tuple[str, ...]] = {}
    ordinals: dict[Version, int] = {}
    aliases: dict[str, str] = {}
    conflicts: dict[Version, str] = {}
    removed: frozenset[Version] = frozenset()
    earlier: tuple[str, ...] | None = None
    lost: tuple[ModelVersion, ...] = ()


def merged(own: ModelEntry | None, elsewhere: Elsewhere | None) -> ModelEntry | None:
    """The model as callers see it: this node's versions, and those of the others; None where there is none. What is
    lost is meant where a caller asks for it, and by calls without a version where nothing else is there."""
    if elsewhere is None:
        return own
    versions = {version.version: version for version in elsewhere.versions}
    if own is not None:
        versions |= {version.version: version for version in own.versions if version.version not in elsewhere.removed}
    lost = {version.version: version for version in elsewhere.lost if version.version not in versions}
    there = _entry(own, elsewhere, versions) if versions else None
    if not lost:
        return there
    whole = _entry(own, elsewhere, versions | lost)
    default = whole.default if there is None else there.default
    return msgspec.structs.replace(whole, default=default, lost=frozenset(lost))


def _entry(own: ModelEntry | None, elsewhere: Elsewhere, versions: Mapping[Version, ModelVersion]) -> ModelEntry:
    dealt = [_with_ordinal(version, elsewhere.ordinals.get(version.version)) for version in versions.values()]
    return make_entry(dealt, _aliases(own.aliases if own else {}, elsewhere.aliases, versions))


def default_before(entry: ModelEntry, earlier: Sequence[str]) -> tuple[Version | None, tuple[str, ...]]:
    """The latest of `earlier` that is there still and not the default now, None where there is none; and those before
    it."""
    there = {str(version.version): version.version for version in entry.versions}
    for position in reversed(range(len(earlier))):
        version = there.get(earlier[position])
        if version is not None and version != entry.default.version:
            return version, tuple(earlier[:position])
    return None, ()


def _with_ordinal(version: ModelVersion, ordinal: int | None) -> ModelVersion:
    if ordinal is None or ordinal == version.ordinal:
        return version
    return msgspec.structs.replace(version, ordinal=ordinal)


def _aliases(
    own: Mapping[str, Version], elsewhere: Mapping[str, str], versions: Mapping[Version, ModelVersion]
) -> dict[str, Version]:
    by_text = {str(version): version for version in versions}
    told = {alias: by_text.get(version) for alias, version in elsewhere.items()}
    both = {alias: version for alias, version in own.items() if version in versions and alias not in told}
    return both | {alias: version for alias, version in told.items() if version is not None}
