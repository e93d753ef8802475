"""What many versions have in common is one object in memory: signatures, manifests and their parts, addresses.

Runs in the gateway process, under the catalogue's lock. 40,000 versions of a few files are then 40,000 small rows.
"""

import hashlib
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

import msgspec

from appliance.catalogue.artifacts import artifact_path
from appliance.core.manifest import Manifest
from appliance.core.tensors import Signature
from appliance.core.versions import parse_version

_MAX_REMEMBERED = 4096

Value = TypeVar("Value")


class SharedValues:
    """Equal texts give the same object while any version holds it. Raises msgspec.MsgspecError for a text that is no
    such value."""

    def __init__(self, artifact_folder: Path) -> None:
        self._signatures: WeakValueDictionary[bytes, Signature] = WeakValueDictionary()
        self._manifests: WeakValueDictionary[bytes, Manifest] = WeakValueDictionary()
        self._part = lru_cache(_MAX_REMEMBERED)(_itself)
        self.version = lru_cache(_MAX_REMEMBERED)(parse_version)
        self.address = lru_cache(_MAX_REMEMBERED)(partial(_address, artifact_folder))

    def signature(self, text: str) -> Signature:
        key = _key(text)
        known = self._signatures.get(key)
        if known is None:
            known = self._signatures[key] = msgspec.json.decode(text, type=Signature)
        return known

    def manifest(self, text: str) -> Manifest:
        key = _key(text)
        known = self._manifests.get(key)
        if known is None:
            known = self._manifests[key] = self._with_shared_parts(msgspec.json.decode(text, type=Manifest))
        return known

    def _with_shared_parts(self, manifest: Manifest) -> Manifest:
        # Manifests differ in a description and share a thousand labels.
        return msgspec.structs.replace(
            manifest,
            tags=self._part(manifest.tags),
            input=self._part(manifest.input),
            output=self._part(manifest.output),
            labels=self._part(manifest.labels),
        )


def _key(text: str) -> bytes:
    # The text itself would weigh more than what is made of it.
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _itself(value: Value) -> Value:
    return value


def _address(artifact_folder: Path, digest: str) -> tuple[str, str]:
    """The digest, and the folder where its artifact lies."""
    return digest, str(artifact_path(artifact_folder, digest))
