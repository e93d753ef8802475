"""What a deploy would make: one pure function over what exists, tested by a table. Knows neither files nor SQLite."""

from typing import NamedTuple

import msgspec

from appliance.catalogue.index import ModelEntry
from appliance.core.errors import ConflictError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.versions import Version, next_version


class Offer(NamedTuple):
    """What is to be published. `declared`: the upload brought the manifest, rather than saying nothing."""

    name: ModelName
    digest: str
    manifest: Manifest
    declared: bool
    version: Version | None = None
    ordinal: int | None = None
    source: str = "deploy"


class Place(NamedTuple):
    """Where a new version goes."""

    version: Version
    ordinal: int


def plan(offer: Offer, entry: ModelEntry | None, last_ordinal: int) -> ModelVersion | Place:
    """The place of the version to be made, or the version that is there already and the same.

    `last_ordinal` is the highest the model ever had. Raises ConflictError where what exists may not be replaced.
    """
    versions = {v.version: v for v in entry.versions} if entry else {}
    if offer.ordinal is not None:
        return _plan_load(offer, versions, offer.ordinal)
    if offer.version is None:
        latest = entry.find("latest") if entry else None
        if latest and latest.digest == offer.digest and _same_manifest(latest.manifest, offer.manifest):
            return latest
        return Place(next_version(versions), last_ordinal + 1)
    existing = versions.get(offer.version)
    if existing is None:
        return Place(offer.version, last_ordinal + 1)
    if existing.digest != offer.digest:
        raise ConflictError(
            f"{existing} exists with other content ({existing.digest[:12]}, not {offer.digest[:12]}) and a version "
            "never changes: deploy under another version, or without one to take the next"
        )
    if offer.declared and not _same_manifest(existing.manifest, offer.manifest):
        raise ConflictError(
            f"{existing} exists with the same content and another manifest, and a version never changes: "
            "deploy under another version, or without one to take the next"
        )
    return existing


def _plan_load(offer: Offer, versions: dict[Version, ModelVersion], ordinal: int) -> ModelVersion | Place:
    """A V2 load with a file: ordinal N is version N.0.0, made anew or over what another load made."""
    version = offer.version or Version(ordinal, 0, 0)
    holders = {v.version: v for v in versions.values() if v.version == version or v.ordinal == ordinal}
    for holder in holders.values():
        whole = holder.version == version and holder.ordinal == ordinal
        same = holder.digest == offer.digest
        if whole and same and (holder.source != "load" or _same_manifest(holder.manifest, offer.manifest)):
            return holder
        if not whole or holder.source != "load":
            raise ConflictError(
                f"{holder} (ordinal {holder.ordinal}) was deployed, and a load may replace only what a load made: "
                f"load under an ordinal that is free, or deploy a new version of {offer.name}"
            )
    return Place(version, ordinal)


def _same_manifest(one: Manifest, other: Manifest) -> bool:
    # The name and the version that a manifest suggests were decided when it was first deployed.
    return msgspec.structs.replace(one, name="", version="") == msgspec.structs.replace(other, name="", version="")
