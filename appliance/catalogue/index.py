"""The catalogue in memory: one frozen snapshot, read by every call. Pure; knows neither SQLite nor files.

A write makes a new snapshot with its own memory of what was resolved, so a reader on another thread can never leave
an answer of the old world in the new one's.
"""

from collections.abc import Iterable, Mapping

import msgspec

from appliance.core.errors import BadInputError, NotFoundError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.versions import Version, resolve, resolve_ordinal

MAX_REMEMBERED = 8192


class ModelEntry(msgspec.Struct, frozen=True):
    """A model with all its versions, oldest (lowest ordinal) first, and what a call without a version gets."""

    name: ModelName
    versions: tuple[ModelVersion, ...]
    aliases: dict[str, Version]
    default: ModelVersion

    def find(self, asked: str, *, by_ordinal: bool = False) -> ModelVersion:
        """The version that a caller's word means. Raises NotFoundError, which says what exists."""
        ordinals = {v.ordinal: v.version for v in self.versions}
        # isascii: int() and str.isdigit() disagree on digits of other scripts.
        choose = resolve_ordinal if by_ordinal else resolve
        found = choose(asked, ordinals, self.aliases) if asked.isascii() else None
        for version in self.versions:
            if version.version == found:
                return version
        shown = ", ".join(str(v.version) for v in self.versions[-8:])
        words = "".join(f", {alias} ({version})" for alias, version in sorted(self.aliases.items())[:8])
        raise NotFoundError(f"{self.name} has no version '{asked[:80]}'; it has {shown}{words}")


def make_entry(versions: Iterable[ModelVersion], aliases: Mapping[str, Version]) -> ModelEntry:
    """An entry from a model's rows; there is at least one version."""
    ordered = tuple(sorted(versions, key=lambda v: v.ordinal))
    default = resolve("", {v.ordinal: v.version for v in ordered}, aliases)
    return ModelEntry(
        name=ordered[0].name,
        versions=ordered,
        aliases=dict(aliases),
        default=next(v for v in ordered if v.version == default),
    )


class Snapshot:
    """Everything that exists at one generation."""

    def __init__(self, generation: int, entries: Mapping[ModelName, ModelEntry]) -> None:
        self.generation = generation
        self.entries = entries
        self._resolved: dict[tuple[str, str, bool], ModelVersion] = {}
        self._texts: dict[ModelName, str] = {}

    def resolve(self, model: str, version: str, by_ordinal: bool) -> ModelVersion:
        """Raises NotFoundError; a name that no model can have is one that no model has."""
        asked = (model, version, by_ordinal)
        found = self._resolved.get(asked)
        if found is None:
            try:
                name = parse_name(model)
            except BadInputError as error:
                raise NotFoundError(f"there is no such model: {error}") from None
            found = self.entry(name).find(version, by_ordinal=by_ordinal)
            if len(self._resolved) >= MAX_REMEMBERED:
                self._resolved.clear()
            self._resolved[asked] = found
        return found

    def entry(self, name: ModelName) -> ModelEntry:
        entry = self.entries.get(name)
        if entry is None:
            raise NotFoundError(f"there is no model {name} on this node; `ingle models` lists those there are")
        return entry

    def search(self, query: str, tag: str) -> list[ModelEntry]:
        """The models in which every word of `query` occurs and which carry `tag`, sorted by name."""
        words = query.casefold().split()
        found = [
            entry
            for entry in self.entries.values()
            if (not tag or tag.casefold() in (t.casefold() for t in entry.default.manifest.tags))
            and all(word in self._text(entry) for word in words)
        ]
        return sorted(found, key=lambda entry: entry.name)

    def _text(self, entry: ModelEntry) -> str:
        text = self._texts.get(entry.name)
        if text is None:
            manifest = entry.default.manifest
            text = "\n".join((str(entry.name), manifest.description, *manifest.tags, *manifest.labels)).casefold()
            self._texts[entry.name] = text
        return text
