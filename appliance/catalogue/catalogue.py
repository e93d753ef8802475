"""What exists on this node: models, their versions and aliases, and the deploys that change them atomically.

Runs in the gateway process. Reads come from memory, from any thread; writes wait for the disk, so an event loop calls
them through a thread. Knows nothing of workers, keys or protocols, and never opens a model's file.

A deploy is atomic because its one decisive act is SQLite's commit: the artifact lies at its address, synced, before the
row that names it is written, and what no row names is removed at the next start.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.catalogue.artifacts import Artifacts, artifact_path, is_intact
from appliance.catalogue.elsewhere import Elsewhere, default_before, merged
from appliance.catalogue.index import ModelEntry, Query, Snapshot
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.plan import Offer, Place, plan
from appliance.catalogue.settled import settled
from appliance.catalogue.staging import StagedArtifact
from appliance.catalogue.store import MIGRATIONS, Store
from appliance.core.database import DamagedError, keep_damaged
from appliance.core.durable import disk_faults
from appliance.core.errors import (
    BadInputError,
    ConflictError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.core.salvage import salvage
from appliance.core.scale import AS_THE_NODE_DECIDES, Scale
from appliance.core.traffic import TO_THE_DEFAULT, Traffic
from appliance.core.versions import Version, check_alias

CATALOGUE_FILE = "catalogue.sqlite"
_READABLE_FILE = "catalogue-readable.sqlite"  # what could be read of a damaged one

_MAX_EARLIER = 16  # defaults before that the mesh keeps of a model
_FEW = 100  # models that changed elsewhere, up to which each is put in place by itself

_log = logging.getLogger("ingle.catalogue")

Wish = TypeVar("Wish", Scale, Traffic)


class Catalogue:
    """Raises, from every method that writes: UnavailableError where the database is held by another process or the disk
    is full, IngleError where the data folder is damaged. Nothing is changed then."""

    def __init__(self, folder: Path) -> None:
        """Opens what `folder` holds, or begins there, and removes what a cut deploy left. One process at a time."""
        self.folder = folder.absolute()
        self._lock = threading.RLock()
        self._artifacts = Artifacts(self.folder / "artifacts", self.folder / "incoming")
        self._own = Snapshot.first(0, ())  # what this node holds
        self._elsewhere: dict[ModelName, Elsewhere] = {}
        self._snapshot = self._own  # the same with what other nodes hold
        # Hears of aliases and wishes that are set here (kind, model, key, value), from whichever thread sets them.
        self.on_wish: Callable[[str, ModelName, str, str], None] = _unheard
        # Hears that what lies here has changed, from whichever thread changes it.
        self.on_held: Callable[[], None] = _nobody_listens
        self.fault = ""  # what is wrong with the database, as a sentence; nothing is changed while it is
        self._open()
        with disk_faults(self.folder):
            self._artifacts.empty_incoming()

    def _open(self, *, aside: bool = False) -> None:
        """What the folder holds is the next generation; artifacts that nothing names are taken away, or, with `aside`,
        put aside. A damaged database is read as far as it goes, and nothing is changed or taken away then."""
        try:
            self._open_file(self.folder / CATALOGUE_FILE, self._keep_named_aside if aside else self._keep_named)
            self.fault = ""
        except DamagedError as error:
            readable = self.folder / _READABLE_FILE
            rows = salvage(self.folder / CATALOGUE_FILE, readable, MIGRATIONS)
            self._open_file(readable, self._mend)
            self._found_damage(error)
            _log.error("%d rows of the catalogue could be read, %d models are served", rows, self.model_count)

    def _open_file(self, path: Path, first: Callable[[], None]) -> None:
        self._store = Store(path, self.folder / "artifacts")
        try:
            with disk_faults(self.folder):
                first()
            own = Snapshot.first(self._snapshot.generation + 1, self._store.entries())
            snapshot = self._merged(own) if self._elsewhere else own
            scales = {name: _wish(value, Scale) for name, value in self._store.wishes("scale").items()}
            traffics = {
                name: settled(_wish(value, Traffic), snapshot.entries[name])
                for name, value in self._store.wishes("traffic").items()
                if name in snapshot.entries  # of a damaged file not all may have been read
            }
        except BaseException:
            self._store.close()
            raise
        self._own, self._snapshot, self._scales, self._traffics = own, snapshot, scales, traffics
        self.on_held()

    def _merged(self, own: Snapshot) -> Snapshot:
        names = own.entries.keys() | self._elsewhere.keys()
        entries = (merged(own.entries.get(name), self._elsewhere.get(name)) for name in names)
        return Snapshot.first(own.generation, (entry for entry in entries if entry is not None))

    def put_elsewhere(self, told: Mapping[ModelName, Elsewhere | None]) -> None:
        """What other nodes of the mesh hold of these models now; None: nothing. Every read answers for the mesh."""
        with self._lock:
            changed = [name for name, elsewhere in told.items() if self._elsewhere.get(name) != elsewhere]
            for name in changed:
                elsewhere = told[name]
                if elsewhere is None:
                    self._elsewhere.pop(name, None)
                else:
                    self._elsewhere[name] = elsewhere
            if len(changed) > _FEW:
                self._own = Snapshot.first(self._snapshot.generation + 1, self._own.walk())
                self._snapshot = self._merged(self._own)
                return
            for name in changed:
                entry = merged(self._own.entries.get(name), self._elsewhere.get(name))
                self._snapshot = self._snapshot.changed(name, entry)

    def holders(self, model: ModelVersion) -> tuple[str, ...]:
        """The ids of the other nodes that hold this version."""
        known = self._elsewhere.get(model.name)
        return known.holders.get(model.version, ()) if known else ()

    def conflict(self, model: ModelVersion) -> str:
        """Why this version must not be called, where nodes hold it with different content; else empty."""
        known = self._elsewhere.get(model.name)
        return known.conflicts.get(model.version, "") if known else ""

    def held(self, after: ModelName | None = None) -> Iterator[ModelEntry]:
        """As walk(), but only what lies on this node's own disk."""
        return self._own.walk(after)

    def own_entry(self, name: ModelName) -> ModelEntry | None:
        """The versions of a model that lie on this node's disk, and the aliases that are kept with them."""
        return self._own.entries.get(name)

    def own(self, model: ModelVersion) -> ModelVersion | None:
        """The same version as this node's disk has it, or None; its ordinal is the one that was given here."""
        entry = self._own.entries.get(model.name)
        for version in entry.versions if entry else ():
            if version.key == model.key:
                return version
        return None

    def _mend(self) -> None:
        self._store.mend()

    def _keep_named(self) -> None:
        if self._store.is_new:
            self._artifacts.set_aside()
        self._artifacts.remove_all_but(self._store.artifacts())

    def _keep_named_aside(self) -> None:
        self._artifacts.set_aside(but=self._store.artifacts())

    def _found_damage(self, error: DamagedError) -> None:
        self.fault = (
            f"{error.what}: models that can be read are served and nothing is changed. "
            "`ingle restore` puts a backup in its place; without one, `ingle backup FILE` after a restart saves what "
            "can be read, and `ingle restore FILE` goes on with that"
        )
        _log.error("%s", self.fault)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Around each change. Raises UnavailableError where the database is damaged, as it may be found just now."""
        with self._lock:
            if self.fault:
                raise UnavailableError(self.fault)
            try:
                yield
            except DamagedError as error:
                self._found_damage(error)
                raise UnavailableError(self.fault) from error

    @property
    def generation(self) -> int:
        """Grows with each write; what a caller derived from an earlier one is stale."""
        return self._snapshot.generation

    def resolve(self, model: str, version: str = "", *, by_ordinal: bool = False) -> ModelVersion:
        """The version that a caller means by `owner/name` or `name` and a version, alias or nothing.

        With `by_ordinal` a bare integer is V2's ordinal. Raises NotFoundError, which says which versions exist.
        """
        return self._snapshot.resolve(model, version, by_ordinal)

    def entry(self, name: ModelName) -> ModelEntry:
        """A model and all its versions. Raises NotFoundError."""
        return self._snapshot.entry(name)

    def search(self, query: str = "", tag: str = "") -> list[ModelEntry]:
        """The models where every word of `query` is in the default version's name, description, tags or labels and,
        with `tag`, that carry it (case ignored), sorted by name; all of them without either."""
        return list(filter(Query(query, tag).matches, self._snapshot.walk()))

    def walk(self, after: ModelName | None = None) -> Iterator[ModelEntry]:
        """All models that there are now, by name, or those behind `after`, for whoever cannot take all at once."""
        return self._snapshot.walk(after)

    def has_model(self, name: ModelName) -> bool:
        return name in self._snapshot.entries

    @property
    def model_count(self) -> int:
        return len(self._snapshot.entries)

    @property
    def held_count(self) -> int:
        """The models of which some version lies on this node's disk."""
        return len(self._own.entries)

    def digests(self) -> set[str]:
        """Every artifact that a version names."""
        return {version.digest for entry in self._own.entries.values() for version in entry.versions}

    def files(self, digest: str) -> dict[str, str]:
        """An artifact's files, relative path to sha256. Raises NotFoundError."""
        with self._lock:
            files = self._store.files(digest)
        if not files:
            raise NotFoundError(f"no version on this node has the artifact {digest[:64]}")
        return files

    def artifact_folder(self, digest: str) -> Path:
        """Where an artifact lies, if a version on this node has it."""
        return artifact_path(self._artifacts.folder, digest)

    def new_incoming(self) -> Path:
        """A fresh folder for one upload; discard() it when done with it, whatever became of it."""
        with disk_faults(self._artifacts.incoming):
            return self._artifacts.new_incoming()

    def discard(self, incoming: Path) -> None:
        """Removes a folder that new_incoming() made, and what is left in it."""
        if incoming.parent == self._artifacts.incoming:
            shutil.rmtree(incoming, ignore_errors=True)

    def publish(
        self,
        staged: StagedArtifact,
        inspection: Inspection,
        *,
        name: ModelName,
        version: Version | None,
        manifest: Manifest,
        source: str = "deploy",
        ordinal: int | None = None,
        keep_default: bool = False,
    ) -> tuple[ModelVersion, bool]:
        """Makes a version of a staged artifact; False where it was there already and nothing was done.

        Without `version`: the next minor, unless digest and manifest equal those of `latest`. With `source="load"`
        and an `ordinal` N: version N.0.0, which replaces what a load made. Raises ConflictError where the version
        exists otherwise, RefusedError where the manifest holds what cannot be kept. Where a version was made, the
        staged folder is gone. With `keep_default` what a call without a version gets stays what it is, at every
        moment: the alias `default` is set in the same transaction.
        """
        offer = Offer(name, staged.digest, _storable(manifest), staged.manifest is not None, version, ordinal, source)
        with self._writing(), disk_faults(self._artifacts.folder):
            entry = self._snapshot.entries.get(name)
            last_ordinal = max((v.ordinal for v in entry.versions), default=0) if entry else 0
            place = plan(offer, entry, max(last_ordinal, self._store.last_ordinal(name)))
            if isinstance(place, ModelVersion) and not place.folder:
                place = Place(
                    place.version, self._free_ordinal(name, place.ordinal)
                )  # what lies elsewhere lies here too
            if isinstance(place, ModelVersion):
                self._artifacts.place(staged)  # what lies there may be damaged
                if self._store.is_copied(place):
                    with self._store.transaction():
                        self._store.keep(place)
                return place, False
            with self._naming(name, staged) as folder:
                made = ModelVersion(
                    name=name,
                    version=place.version,
                    ordinal=place.ordinal,
                    digest=staged.digest,
                    folder=str(folder),
                    size_bytes=staged.size_bytes,
                    signature=inspection.signature,
                    manifest=offer.manifest,
                    batchable=inspection.batchable,
                    batch_reason=inspection.batch_reason,
                    created_s=time.time(),
                    source=source,
                )
                if keep_default and entry:
                    if entry.default.folder and "default" not in entry.aliases:
                        self._store.put_alias(name, "default", entry.default.version)
                    # Before the version is there: nobody in the mesh sees it without what keeps calls from it.
                    self._tell_alias(name, "default", str(entry.default.version))
                self._store.put_version(made)
        return made, True

    def publish_copy(self, model: ModelVersion, staged: StagedArtifact, inspection: Inspection) -> ModelVersion:
        """Makes this node hold a version that others hold, as they have it: its number, ordinal and age; what a
        call without a version gets stays what it is in the mesh. What was found in looking at it here counts here.
        Until somebody deploys it here it is one of copied().

        Where it lies here already nothing is done. Raises ConflictError where what lies here has other content.
        """
        with self._writing(), disk_faults(self._artifacts.folder):
            own = self._own.entries.get(model.name)
            for version in own.versions if own else ():
                if version.version == model.version and version.digest == model.digest:
                    return version
                if version.version == model.version:
                    raise ConflictError(
                        f"{model} lies on this node with other content ({version.digest[:12]}, not "
                        f"{model.digest[:12]}): delete it on one of the nodes that hold it"
                    )
            with self._naming(model.name, staged) as folder:
                made = msgspec.structs.replace(
                    model,
                    ordinal=self._free_ordinal(model.name, model.ordinal),
                    folder=str(folder),
                    signature=inspection.signature,
                    manifest=_storable(model.manifest),
                    batchable=inspection.batchable,
                    batch_reason=inspection.batch_reason,
                )
                self._store.put_version(made, copied=True)
        return made

    def copied(self) -> list[ModelVersion]:
        """What lies here only because the mesh copied it: nobody deployed it on this node."""
        with self._lock:
            own = self._own.entries
            marked = self._store.copied()
        entries = [own[name] for name in {name for name, _ in marked} if name in own]
        return [v for entry in entries for v in entry.versions if (v.name, str(v.version)) in marked]

    def drop_copy(self, model: ModelVersion) -> bool:
        """Removes one of copied() from this node, if it is one still and other nodes are known to hold it; whether it
        is gone. What the mesh knows of the model stays as it is."""
        with self._writing():
            own = self.own(model)
            if own is None or not self.holders(own) or not self._store.is_copied(own):
                return False
            with self._changing(own.name):
                self._store.delete_version(own.name, own.version)
            return True

    @property
    def keeps_all(self) -> bool:
        """Whether what is deleted now stays on the disk for a while: somebody is within kept()."""
        return self._artifacts.keeps_all

    @contextmanager
    def _naming(self, name: ModelName, staged: StagedArtifact) -> Iterator[Path]:
        """Around the rows that name an artifact, which lies at its address first, and no more where they fail."""
        known = self._store.names_artifact(staged.digest)
        folder = self._artifacts.place(staged)
        try:
            with self._changing(name):
                self._store.put_artifact(staged.digest, staged.size_bytes, staged.files)
                yield folder
        except BaseException:
            if not known:
                self._artifacts.remove(staged.digest)
            raise

    def _free_ordinal(self, name: ModelName, wished: int) -> int:
        entry = self._own.entries.get(name)
        taken = {version.ordinal for version in entry.versions} if entry else set()
        return wished if wished not in taken else self._store.last_ordinal(name) + 1

    def set_alias(self, name: ModelName, alias: str, version: str) -> ModelVersion:
        """Points an alias at the version that `version` means now; where that lies on other nodes only, it is theirs to
        keep. Raises NotFoundError, or BadInputError for a word that cannot be an alias."""
        check_alias(alias)
        with self._writing():
            entry = self.entry(name)
            target, earlier = entry.find(version), self._earlier(entry)
            if target.folder:
                with self._changing(name):
                    self._store.put_alias(name, alias, target.version)
            self._tell_alias(name, alias, str(target.version))
            if alias == "default" and target.version != entry.default.version:
                self._tell_earlier(name, (*earlier, str(entry.default.version)))
        return target

    def _tell_alias(self, name: ModelName, alias: str, version: str) -> None:
        """Tells the mesh, and reads it here from now on: what the mesh last said comes before this node's own."""
        known = self._elsewhere.get(name)
        if known is not None:
            told = msgspec.structs.replace(known, aliases={**known.aliases, alias: version})
            self._elsewhere[name] = told
            self._snapshot = self._snapshot.changed(name, merged(self._own.entries.get(name), told))
        self.on_wish("alias", name, alias, version)

    def _earlier(self, entry: ModelEntry) -> tuple[str, ...]:
        """What the default was before, the latest last: as the mesh says, where the default was ever set in it; else
        as this node remembers it; else, where no alias was set, the releases below."""
        known = self._elsewhere.get(entry.name)
        if known is not None and known.earlier is not None:
            return known.earlier
        return tuple(self._store.earlier_defaults(entry.name)) or tuple(map(str, _releases_below(entry)))

    def _tell_earlier(self, name: ModelName, earlier: tuple[str, ...]) -> None:
        """As _tell_alias(): any node may be asked to roll back what was set on another, whatever lies on it."""
        earlier = earlier[-_MAX_EARLIER:]
        known = self._elsewhere.get(name)
        if known is not None:  # read here from now on
            self._elsewhere[name] = msgspec.structs.replace(known, earlier=earlier)
        self.on_wish("earlier", name, "", msgspec.json.encode(earlier).decode())

    def keep_alias(self, name: ModelName, alias: str, version: Version | None) -> None:
        """Keeps what the mesh says of an alias with the versions that lie here; None takes it away."""
        with self._writing():
            own = self._own.entries.get(name)
            if own is None or (version is not None and all(v.version != version for v in own.versions)):
                return
            with self._changing(name):
                if version is None:
                    self._store.delete_alias(name, alias)
                else:
                    self._store.put_alias(name, alias, version)

    def delete_alias(self, name: ModelName, alias: str) -> None:
        """Raises NotFoundError where there is no such alias."""
        with self._writing():
            entry = self.entry(name)
            if alias not in entry.aliases:
                known = ", ".join(sorted(entry.aliases)) or "none"
                raise NotFoundError(f"{name} has no alias '{alias[:80]}'; it has {known}")
            own = self._own.entries.get(name)
            if own is not None and alias in own.aliases:
                with self._changing(name):
                    self._store.delete_alias(name, alias)
            self._tell_alias(name, alias, "")

    def scale(self, name: ModelName) -> Scale:
        """What was wished of the model's replicas on this node."""
        return self._scales.get(name, AS_THE_NODE_DECIDES)

    def scale_of(self, model: ModelVersion) -> Scale:
        """The same for one version: replicas that must stay are those of the default."""
        scale = self._scales.get(model.name, AS_THE_NODE_DECIDES)
        entry = self._snapshot.entries.get(model.name)
        if scale.min_replicas and (entry is None or entry.default.key != model.key):
            return msgspec.structs.replace(scale, min_replicas=0)
        return scale

    def pinned(self) -> list[ModelVersion]:
        """The default versions of the models that are never to be without a worker."""
        entries = self._snapshot.entries
        wished = [name for name, scale in self._scales.items() if scale.min_replicas and name in entries]
        return [entries[name].default for name in wished if entries[name].default.folder]

    def set_scale(self, name: ModelName, scale: Scale, *, told: bool = False) -> None:
        """Keeps what is wished of the model's replicas; `told`: by the mesh. Raises NotFoundError."""
        with self._writing():
            self.entry(name)
            if name in self._own.entries:
                with self._store.transaction():
                    self._put_scale(name, scale)
            self._scales = {**self._scales, name: scale}
        if not told:
            self.on_wish("scale", name, "", msgspec.json.encode(scale).decode())

    def _put_scale(self, name: ModelName, scale: Scale) -> None:
        wished = scale != AS_THE_NODE_DECIDES
        self._store.put_wish(name, "scale", msgspec.json.encode(scale).decode() if wished else "")

    def traffic(self, name: ModelName) -> Traffic:
        """How the model's calls are spread over the versions that there are now: one that lies on nodes out of reach
        gets none until one of them is back."""
        wish, entry = self._traffics.get(name), self._snapshot.entries.get(name)
        return settled(wish, entry.in_reach) if wish is not None and entry is not None else TO_THE_DEFAULT

    def traffics(self) -> dict[ModelName, Traffic]:
        """The models that have a wish of that kind, and the wishes, whether or not their versions are in reach."""
        return self._traffics

    def set_traffic(self, name: ModelName, traffic: Traffic, *, told: bool = False) -> None:
        """Keeps how the model's calls are to be spread; `told`: by the mesh. Raises NotFoundError for it or a version
        that is named, unless it was told: its versions may come to be known later."""
        with self._writing():
            entry = self.entry(name)
            for version in (traffic.canary, traffic.shadow, traffic.return_to):
                if version and not told:
                    entry.find(version)
            if name in self._own.entries:  # else the mesh alone keeps it over a restart
                with self._store.transaction():
                    self._put_traffic(name, traffic)
            self._remember_traffic(name, traffic)
            self._snapshot = self._snapshot.changed(name, entry)  # who derived routes derives them again
        if not told:
            self.on_wish("traffic", name, "", msgspec.json.encode(traffic).decode())

    def _put_traffic(self, name: ModelName, traffic: Traffic) -> None:
        wished = traffic != TO_THE_DEFAULT
        self._store.put_wish(name, "traffic", msgspec.json.encode(traffic).decode() if wished else "")

    def _remember_traffic(self, name: ModelName, traffic: Traffic) -> None:
        others = {key: value for key, value in self._traffics.items() if key != name}
        self._traffics = {**others, name: traffic} if traffic != TO_THE_DEFAULT else others

    def rollback(self, name: ModelName) -> ModelVersion:
        """Points `default` at what a call without a version got before, wherever in the mesh it was set; again, and it
        goes one further back. Where none is remembered and no alias was set, that was the highest release below.

        Raises NotFoundError for the model, ConflictError where nothing earlier is known.
        """
        with self._writing():
            entry = self.entry(name).in_reach  # nobody rolls back to what answers no call
            current = entry.default.version
            with self._changing(name, remember=False):
                earlier, left = default_before(entry, self._earlier(entry))
                self._store.pop_default(name, current)
                if earlier is None and (below := _releases_below(entry)):
                    earlier, left = below[-1], tuple(map(str, below[:-1]))
                if earlier is None:
                    raise ConflictError(
                        f"{name} has no earlier default than {current} that this node knows of: "
                        f"say which you want, as in `ingle alias {name} default 1.0.0`"
                    )
                if entry.find(str(earlier)).folder:
                    self._store.put_alias(name, "default", earlier)
            self._tell_alias(name, "default", str(earlier))
            self._tell_earlier(name, left)
            return self.entry(name).default

    def meant(self, name: ModelName, version: str | None = None) -> list[ModelVersion]:
        """What delete() is to remove, wherever in the mesh it lies. Raises as delete() does."""
        entry = self.entry(name)
        return list(entry.versions) if version is None else [_exactly(entry, version)]

    def delete(self, name: ModelName, version: str | None = None) -> list[ModelVersion]:
        """Removes one version, or the model with all of them, from this node; returns what is gone. Aliases that
        pointed there go too.

        Raises NotFoundError, or BadInputError where `version` leaves open which one is meant.
        """
        with self._writing():
            entry = self._own.entry(name)
            doomed = list(entry.versions) if version is None else [_exactly(entry, version)]
            with self._changing(name):
                for gone in doomed:
                    self._store.delete_version(name, gone.version)
        return doomed

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, no artifact is removed: what is deleted meanwhile goes at the end."""
        with self._lock:
            self._artifacts.keep_all()
        try:
            yield
        finally:
            with self._lock:
                self._artifacts.let_go()

    def copy_to(self, target: Path) -> None:
        """Writes the database as it is now to a new file. For all that it names to stay, within kept()."""
        with self._lock:
            self._store.copy_to(target)

    def has(self, digest: str, files: Mapping[str, str]) -> bool:
        """Whether the artifact of these files (relative path to sha256) lies at its address, to the bit."""
        return is_intact(artifact_path(self._artifacts.folder, digest), files)

    def place(self, staged: StagedArtifact) -> None:
        """Puts an artifact at its address before a version names it: within kept(), or it may be gone at once."""
        with self._lock, disk_faults(self._artifacts.folder):
            self._artifacts.place(staged)

    def exchange(self, act: Callable[[], object]) -> list[ModelVersion]:
        """Lets the database go, has `act` replace its file, and goes on with what is there then. Reads come from memory
        meanwhile. Returns the versions that are gone or do not serve as they did."""
        with self._lock:
            before, damaged = self._own, bool(self.fault)
            if damaged:
                keep_damaged(self.folder / CATALOGUE_FILE)
            self._store.close()
            try:
                act()
            finally:
                self._open(aside=damaged)
            after = {version.key: version for entry in self._own.walk() for version in entry.versions}
            return [v for entry in before.walk() for v in entry.versions if not _serves_alike(v, after.get(v.key))]

    def close(self) -> None:
        """Ends the use of the database; reads go on from memory."""
        with self._lock:
            self._store.close()

    @contextmanager
    def _changing(self, name: ModelName, *, remember: bool = True) -> Iterator[None]:
        """One transaction on one model; then memory says what the rows say, and artifacts nobody names are gone."""
        before = self._own.entries.get(name)
        with self._store.transaction():
            yield
            after = self._store.entry(name)
            if remember and before and after and _default_moved(before, after):
                self._store.push_default(name, before.default.version)
            whole = merged(after, self._elsewhere.get(name))
            wish = self._traffics.get(name, TO_THE_DEFAULT)
            traffic = settled(wish, whole) if whole else TO_THE_DEFAULT
            if after and (before is None or traffic != wish):
                self._put_traffic(name, traffic)
            if after and before is None:
                self._put_scale(name, self.scale(name))
            orphans = self._store.drop_unreferenced(_digests(before) - _digests(after))
        self._remember_traffic(name, traffic)  # first: no route is made of a wish for what is gone
        self._own = self._own.changed(name, after)
        self._snapshot = self._snapshot.changed(name, whole)
        self.on_held()
        if whole is None:
            # As a new dict: the event loop may be going through the old one.
            self._scales = {key: value for key, value in self._scales.items() if key != name}
        for digest in orphans:
            with suppress(OSError):  # the change is made; what stays behind goes at the next start
                self._artifacts.remove(digest)


def _nobody_listens() -> None:
    """The node is in no mesh."""


def _unheard(_kind: str, _name: ModelName, _key: str, _value: str) -> None:
    """The node is in no mesh."""


def _serves_alike(one: ModelVersion, other: ModelVersion | None) -> bool:
    """Whether workers of the one may go on as workers of the other."""
    if other is None:
        return False
    alike = msgspec.structs.replace(
        one, created_s=other.created_s, source=other.source, batch_reason=other.batch_reason
    )
    return alike == other


def _wish(value: str, kind: type[Wish]) -> Wish:
    return msgspec.json.decode(value, type=kind)


def _digests(entry: ModelEntry | None) -> set[str]:
    return {version.digest for version in entry.versions} if entry else set()


def _default_moved(before: ModelEntry, after: ModelEntry) -> bool:
    earlier = before.default.version
    return earlier != after.default.version and any(v.version == earlier for v in after.versions)


def _releases_below(entry: ModelEntry) -> list[Version]:
    """The defaults before the present one was deployed, if that is the default for being the latest."""
    if "default" in entry.aliases:
        return []
    return sorted(v.version for v in entry.versions if not v.version.pre and v.version < entry.default.version)


def _exactly(entry: ModelEntry, asked: str) -> ModelVersion:
    found = entry.find(asked)
    if asked not in (str(found.version), "latest", *entry.aliases):
        raise BadInputError(
            f"'{asked[:80]}' does not say exactly which version of {entry.name} to delete: "
            f"give all of it, such as {found.version}"
        )
    return found


def _storable(manifest: Manifest) -> Manifest:
    """The manifest as it will be read back. Raises RefusedError where it would not be."""
    try:
        return msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest)
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        raise RefusedError(f"the manifest cannot be kept: {error} (every number must be finite)") from None
