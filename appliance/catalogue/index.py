"""The catalogue in memory: one frozen snapshot, read by every call. Pure; knows neither SQLite nor files.

A write makes a new snapshot with its own memory of what was resolved, so a reader on another thread can never leave
an answer of the old world in the new one's. It copies the dict of entries and not the entries: 0.2 ms at 40,000 models.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import msgspec

from appliance.core.errors import BadInputError, NotFoundError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.versions import Version, resolve, resolve_ordinal

MAX_REMEMBERED = 8192


class ModelEntry(msgspec.Struct, frozen=True, gc=False):
    """A model with all its versions, oldest (lowest ordinal) first, and what a call without a version gets. `lost` of
    them lie on nodes alone that were lost a moment ago."""

    name: ModelName
    versions: tuple[ModelVersion, ...]
    aliases: dict[str, Version]
    default: ModelVersion
    lost: frozenset[Version] = frozenset()

    @property
    def in_reach(self) -> "ModelEntry":
        """The same without what is lost; as it is where nothing else is left."""
        there = tuple(v for v in self.versions if v.version not in self.lost) if self.lost else ()
        return msgspec.structs.replace(self, versions=there, lost=frozenset()) if there else self

    def find(self, asked: str, *, by_ordinal: bool = False) -> ModelVersion:
        """The version that a caller's word means; one that is lost where no other can be meant. Raises NotFoundError,
        which says what exists."""
        if not asked:
            return self.default
        choose = resolve_ordinal if by_ordinal else resolve
        found = None
        for entry in (self.in_reach, self) if self.lost else (self,):
            # isascii: int() and str.isdigit() disagree on digits of other scripts.
            if found is None and asked.isascii():
                found = choose(asked, {v.ordinal: v.version for v in entry.versions}, self.aliases)
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
    """Everything that exists at one generation. `names` is sorted."""

    def __init__(self, generation: int, entries: dict[ModelName, ModelEntry], names: list[ModelName]) -> None:
        self.generation = generation
        self.entries = entries
        self._names = names
        self._resolved: dict[tuple[str, str, bool], ModelVersion] = {}

    @classmethod
    def first(cls, generation: int, entries: Iterable[ModelEntry]) -> "Snapshot":
        """The world as it is read from the disk."""
        by_name = {entry.name: entry for entry in entries}
        return cls(generation, by_name, sorted(by_name))

    def changed(self, name: ModelName, entry: ModelEntry | None) -> "Snapshot":
        """The next generation, in which one model is as `entry` says; None: it is gone."""
        entries, names = self.entries.copy(), self._names
        if entry is None:
            if entries.pop(name, None) is not None:
                names = names.copy()
                del names[bisect_left(names, name)]
        else:
            if name not in entries:
                names = names.copy()
                insort(names, name)
            entries[name] = entry
        return Snapshot(self.generation + 1, entries, names)

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

    def walk(self, after: ModelName | None = None) -> Iterator[ModelEntry]:
        """All models sorted by name, or those behind `after`."""
        start = bisect_right(self._names, after) if after else 0
        return (self.entries[name] for name in islice(self._names, start, None))


class Query:
    """What a search asks for. One object serves one search: it remembers the words of manifests that it met."""

    def __init__(self, query: str = "", tag: str = "") -> None:
        self._words = query.casefold().split()
        self._tag = tag.casefold()
        self._texts: dict[int, tuple[Manifest, str]] = {}

    def matches(self, entry: ModelEntry) -> bool:
        """Whether every word is in the default version's name, description, tags or labels, and it carries the tag."""
        manifest = entry.default.manifest
        if self._tag and not any(tag.casefold() == self._tag for tag in manifest.tags):
            return False
        if not self._words:
            return True
        name = str(entry.name).casefold()
        return all(word in name or word in self._text(manifest) for word in self._words)

    def _text(self, manifest: Manifest) -> str:
        # Equal manifests are one object here; it is kept beside its text so that its id stays its own.
        known = self._texts.get(id(manifest))
        if known is None:
            text = "\n".join((manifest.description, *manifest.tags, *manifest.labels)).casefold()
            known = self._texts[id(manifest)] = (manifest, text)
        return known[1]
