"""Taking a model in: staged, looked at in a sandboxed child, published; and V2's load with files, which is the same.

Runs in the gateway's event loop; what waits for the disk does so in a thread.
"""

import asyncio
import json
import re
import zipfile
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.staging import stage, unpacked_bytes
from appliance.core.copy_wish import NO_WISH, CopyWish
from appliance.core.errors import BadInputError, ConflictError, NotFoundError
from appliance.core.manifest import Manifest
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName, parse_name
from appliance.core.traffic import Traffic
from appliance.core.versions import Version, parse_version
from appliance.gateway.copies import Copies
from appliance.gateway.deletions import Deleted
from appliance.gateway.states import DeployResult
from appliance.gateway.trial import NONE, Trial
from appliance.gateway.vouching import Vouching
from appliance.security.scopes import Principal
from appliance.workers.inspector import Inspector

_FILE = re.compile(r"(?:file:)?([1-9]\d{0,8})/(.+)", re.ASCII)


NO_VOUCHING = Vouching()


class Deployer:
    """What fronts call to change what exists. `warm` has a model loaded, `swap` has one warm where another was,
    `forget` ends what ran of a version that is gone, `unload` puts a model to sleep: all are the data plane's."""

    def __init__(
        self,
        catalogue: Catalogue,
        inspector: Inspector,
        *,
        warm: Callable[[ModelVersion], Awaitable[None]],
        swap: Callable[[ModelVersion | None, ModelVersion], Awaitable[str]],
        forget: Callable[[ModelVersion, ModelVersion | None], None],
        unload: Callable[[ModelName], None],
        vouching: Vouching = NO_VOUCHING,
    ) -> None:
        self._catalogue = catalogue
        self._inspector = inspector
        self._warm = warm
        self._swap = swap
        self._forget = forget
        self._unload = unload
        self._vouching = vouching
        self.copies: Copies | None = None  # set where there is a mesh

    async def deploy(
        self,
        upload: Path,
        incoming: Path,
        principal: Principal,
        *,
        name: str,
        version: str,
        source: str = "deploy",
        ordinal: int | None = None,
        trial: Trial = NONE,
        signature_required: bool = False,
        wish: CopyWish = NO_WISH,
        on_step: Callable[[str], None] | None = None,
    ) -> DeployResult:
        """Publishes a file that lies complete in `incoming`, which the caller discards afterwards.

        `name` and `version` empty: as the bundle's manifest says. Raises ForbiddenError, RefusedError, ConflictError,
        BadInputError; nothing is stored then. With a `wish` for copies, NotFoundError for a node that nobody knows and
        ConflictError where there is no mesh. With a trial, UnavailableError too, where the version is stored but
        cannot be tried.
        """
        if name:
            principal.require("deploy", parse_name(name))
        warnings = self._check_wish(wish)
        await asyncio.to_thread(self._vouching.check, upload, required=signature_required)
        if self.copies:
            await self.make_room(await asyncio.to_thread(unpacked_bytes, upload))
        staged = await asyncio.to_thread(stage, upload, incoming)
        manifest = staged.manifest or Manifest()
        target = parse_name(name or manifest.name)
        principal.require("deploy", target)
        wanted = version or manifest.version
        number: Version | None = parse_version(wanted) if wanted and ordinal is None else None
        if trial.canary_share and self._default(target) is None:
            raise ConflictError(f"{target} has no version yet that the other calls could go to: deploy it as it is")
        inspection = await self._inspector.inspect(str(staged.folder), manifest, on_step)
        replaced = self._load_made(target, ordinal)
        before = self._default(target)
        self.lift([(target, staged.digest)])
        model, created = await asyncio.to_thread(
            self._catalogue.publish,
            staged,
            inspection,
            name=target,
            version=number,
            manifest=manifest,
            source=source,
            ordinal=ordinal,
            keep_default=trial.canary_share > 0,
        )
        if self.copies and created and replaced is not None and replaced.digest != model.digest:
            self.copies.deletions.announce(replaced)
        if self.copies and wish != NO_WISH:
            self.copies.set_wish(model.name, wish)
        warnings = (*inspection.warnings, *warnings)
        if created and (warning := await self._swapped(replaced, before, model)):
            warnings = (*warnings, warning)
        if trial.wanted and before is not None:
            warnings = (*warnings, *await self._try(model, trial, before))
        return DeployResult(model, created, warnings)

    def lift(self, made: Collection[tuple[ModelName, str]]) -> None:
        """What is to lie here anew is removed in the mesh no more. Before it does, or it goes at once."""
        if self.copies:
            self.copies.deletions.lift(made)

    async def make_room(self, size_bytes: int) -> None:
        """Has copies that the mesh made here by itself give way to a deploy of so many bytes, where that helps."""
        if self.copies:
            await self.copies.disk_room.make(size_bytes, "for a deploy")

    def _check_wish(self, wish: CopyWish) -> tuple[str, ...]:
        if wish == NO_WISH:
            return ()
        if self.copies is None:
            raise ConflictError("copies on other nodes are asked for, and this node is in no mesh: --mesh is off")
        return tuple(self.copies.check_wish(wish))

    async def _try(self, made: ModelVersion, trial: Trial, before: ModelVersion) -> tuple[str, ...]:
        """Puts a new version on trial against the default, or, as the default, against what was that before it. A
        sentence where it is neither."""
        default = self._catalogue.entry(made.name).default
        if not trial.canary_share and default != made:
            return (f"calls stay with {default}, and {made} gets none to be judged by: give it a share of them",)
        beside = default if trial.canary_share else before
        await self.set_traffic(made.name, trial.traffic(self._catalogue.traffic(made.name), made, beside))
        return ()

    async def _swapped(self, replaced: ModelVersion | None, before: ModelVersion | None, made: ModelVersion) -> str:
        """Has the version that was made warm where the one that it replaced, or that was the default, is."""
        if replaced is not None:
            warning = await self._swap(replaced, made)
            self._forget(replaced, made)
            return warning
        return await self._swap(before, made) if self._default(made.name) == made else ""

    def _default(self, name: ModelName) -> ModelVersion | None:
        try:
            return self._catalogue.entry(name).default
        except NotFoundError:
            return None

    async def set_alias(self, name: ModelName, alias: str, version: str) -> ModelVersion:
        """Points an alias at a version, and has that warm where the alias' earlier one was. Raises NotFoundError."""
        return await self._move(name, alias, lambda: self._catalogue.set_alias(name, alias, version))

    async def set_traffic(self, name: ModelName, traffic: Traffic) -> None:
        """Spreads the model's calls so. A canary is warm first: nobody's call pays for its start, and it is not judged
        by that. Raises NotFoundError, and UnavailableError where it does not get warm; nothing is changed then."""
        if traffic.canary and traffic.canary_share:
            await self._warm(self._catalogue.resolve(str(name), traffic.canary))
        await asyncio.to_thread(self._catalogue.set_traffic, name, traffic)

    async def rollback(self, name: ModelName) -> ModelVersion:
        """Lets `default` mean what it meant before. Raises NotFoundError, ConflictError."""
        return await self._move(name, "", lambda: self._catalogue.rollback(name))

    async def _move(self, name: ModelName, word: str, act: Callable[[], ModelVersion]) -> ModelVersion:
        try:
            before: ModelVersion | None = self._catalogue.resolve(str(name), "" if word == "default" else word)
        except NotFoundError:
            before = None
        after = await asyncio.to_thread(act)
        await self._swap(before, after)
        return after

    def _load_made(self, name: ModelName, ordinal: int | None) -> ModelVersion | None:
        """The version that a load with this ordinal would replace."""
        if ordinal is None:
            return None
        with suppress(NotFoundError):
            return self._catalogue.resolve(str(name), str(ordinal), by_ordinal=True)
        return None

    async def delete(self, name: ModelName, version: str | None, principal: Principal) -> Deleted:
        """Deletes a version, or the model, on every node of the mesh; what was deleted. Raises NotFoundError,
        ForbiddenError."""
        principal.require("deploy", name)
        if self.copies is not None:
            return await self.copies.delete(name, version)
        gone = await asyncio.to_thread(self._catalogue.delete, name, version)
        for model in gone:
            self._forget(model, None)
        return Deleted(tuple(gone), {}, ())

    async def load(self, model: str, files: Mapping[str, bytes], config: str | None, principal: Principal) -> None:
        """V2's load. With `file:N/...` overrides, version N.0.0 is made of them (to which `deploy` is needed); then
        the default version is loaded and answers. `config` is read for being JSON: what it says is the model's to say.

        Raises BadInputError, RefusedError, ConflictError, NotFoundError, UnavailableError.
        """
        name = parse_name(model)
        if config is not None:
            try:
                json.loads(config)
            except (ValueError, RecursionError) as error:
                raise BadInputError(f"the load's config is no JSON: {error}") from None
        for ordinal, contents in sorted(_by_ordinal(files).items()):
            await self._make(name, ordinal, contents, principal)
        version = self._catalogue.resolve(str(name))
        principal.require("deploy", version.name)
        await self._warm(version)

    async def _make(self, name: ModelName, ordinal: int, contents: Mapping[str, bytes], principal: Principal) -> None:
        principal.require("deploy", name)
        incoming = await asyncio.to_thread(self._catalogue.new_incoming)
        try:
            upload = incoming / "upload"
            await self.make_room(sum(map(len, contents.values())))
            await asyncio.to_thread(_write_upload, upload, contents)
            await self.deploy(upload, incoming, principal, name=str(name), version="", source="load", ordinal=ordinal)
        finally:
            await asyncio.to_thread(self._catalogue.discard, incoming)

    async def unload(self, model: str, principal: Principal) -> None:
        """V2's unload. Raises NotFoundError, ForbiddenError."""
        name = parse_name(model)
        principal.require("deploy", name)
        self._unload(name)


def _by_ordinal(files: Mapping[str, bytes]) -> dict[int, dict[str, bytes]]:
    """`file:N/path` overrides by N. Raises BadInputError for a path of another form."""
    found: dict[int, dict[str, bytes]] = {}
    for path, content in files.items():
        match = _FILE.fullmatch(path)
        if match is None:
            raise BadInputError(f"'{path[:100]}' is no file of a version: expected file:1/model.onnx")
        found.setdefault(int(match[1]), {})[match[2]] = content
    for ordinal, contents in found.items():
        if "model.onnx" not in contents:
            raise BadInputError(f"version {ordinal} of the load has no model.onnx: expected file:{ordinal}/model.onnx")
    return found


def _write_upload(upload: Path, contents: Mapping[str, bytes]) -> None:
    """A bare model, or a bundle of several files, as a deploy would have brought it."""
    if list(contents) == ["model.onnx"]:
        upload.write_bytes(contents["model.onnx"])
        return
    with zipfile.ZipFile(upload, "w") as bundle:
        for path, content in contents.items():
            bundle.writestr(path, content)
