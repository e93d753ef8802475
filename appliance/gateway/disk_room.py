"""Room on this node's disk: where it is short, copies that the mesh made here by itself go.

Runs in the gateway's event loop; what waits for the disk does so in a thread. Which may go is said by
routing/copies_to_drop.py. Before one goes, nodes that hold the version are asked to keep theirs, by the order `keep`:
no node says yes while it is itself about to drop its own. So of all nodes that drop one version the last to begin finds
only nodes that stay, and as many copies are left as are needed, whatever each knew of the others.
"""

import asyncio
import logging
import os
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable
from pathlib import Path
from typing import Protocol

from appliance.catalogue.catalogue import Catalogue
from appliance.core.copy_wish import CopyWish
from appliance.core.durable import disk_faults
from appliance.core.errors import ConflictError, IngleError, NotFoundError, UnavailableError
from appliance.core.models import ModelVersion
from appliance.core.names import ModelName
from appliance.gateway.deletions import own_version
from appliance.routing.copies_due import Place
from appliance.routing.copies_to_drop import CALLED_LATELY_S, MadeCopy, copies_to_drop, who_must_keep
from appliance.routing.own_state import key_of
from federation.messages import Order

LOOK_S = 60.0  # some file systems give back what was deleted half a minute later (btrfs)
ASK_S = 2.0  # a node that is alive answers in milliseconds
LEFT_BYTES = (
    65 * 2**20
)  # uploads and fetches leave 64 MiB of the disk; what the catalogue writes meanwhile comes off too
# How exact the time of the last call is after a restart.
_TOUCH_S = 60.0

_log = logging.getLogger("ingle.copies")


class RoomMesh(Protocol):
    """What is asked of federation.mesh.Mesh."""

    node_id: str


class DiskRoom:
    """start() once the mesh is up; make() before something large is written."""

    def __init__(
        self,
        catalogue: Catalogue,
        mesh: RoomMesh,
        *,
        order: Callable[[str, Order, float], Awaitable[None]],
        forget: Callable[[ModelVersion, ModelVersion | None], None],
        use: Callable[[ModelVersion], tuple[bool, float]],
        wish: Callable[[ModelName], CopyWish],
        places: Callable[[], list[Place]],
        copying: Callable[[], Collection[str]],
        keep_free_bytes: int,
    ) -> None:
        """`order` has a peer carry one out, `forget` ends what runs of a version that is gone, `use` says how one is
        used here (DataPlane.use()), `wish` what is wished of a model's copies, `places` which nodes there are, this one
        among them; `copying` the artifacts that are on their way between nodes."""
        self._catalogue = catalogue
        self._mesh = mesh
        self._order = order
        self._forget = forget
        self._use = use
        self._wish = wish
        self._places = places
        self._copying = copying
        self._keep_free_bytes = max(keep_free_bytes, LEFT_BYTES)
        self._lock = asyncio.Lock()
        # Versions that are about to go from here, by key: until nodes have said that they keep theirs we may still
        # give way to one that wants the same (False), afterwards not (True).
        self._going: dict[str, bool] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._follow())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except IngleError as error:
                _log.warning("the disk is not looked after at the moment: %s", error.sentence)
            except Exception:  # the disk fills up without it: it goes on
                _log.exception("a fault of ours in looking after the disk")

    async def look(self) -> None:
        """Has as much free as is to be kept, as far as copies that may go give it."""
        async with self._lock:
            lacking_bytes = self._keep_free_bytes - await self._free_bytes()
            why = f"less than the {_mib(self._keep_free_bytes)} were free that are kept so"
            await self._drop_copies(lacking_bytes, why, in_part=True)

    async def make(self, size_bytes: int, why: str, *, unasked: bool = False) -> None:
        """Has room for so many bytes, if copies that may go are enough for that; else none goes. `why` as in "for a
        deploy". `unasked`: what nobody wished for leaves free what is to be kept free; raises UnavailableError where
        that cannot be."""
        left_bytes = self._keep_free_bytes if unasked else LEFT_BYTES
        async with self._lock:
            lacking_bytes = size_bytes + left_bytes - await self._free_bytes()
            if lacking_bytes > 0:
                lacking_bytes = await self._drop_copies(lacking_bytes, f"room was needed {why}", in_part=False)
        if unasked and lacking_bytes > 0:
            raise UnavailableError(
                f"it needs {_mib(size_bytes)}, and would leave this node's disk less than the {_mib(left_bytes)} that "
                "are kept free: make room there, or set federation.keep_free"
            )

    async def on_keep(self, node_id: str, order: Order) -> None:
        """A peer drops its copy if this node keeps its own. Raises NotFoundError where it has none, ConflictError where
        that goes too, UnavailableError where it is not what it was."""
        own = own_version(self._catalogue, order)
        if own is not None and not await asyncio.to_thread(_lies_whole, own):
            raise UnavailableError(f"the copy of {own} on this node is damaged")
        own = own_version(self._catalogue, order)
        if own is None:
            raise NotFoundError(f"{order.model[:200]}:{order.version[:60]} is not on this node's disk")
        key = key_of(own)
        if key in self._going:
            # Of two that ask each other one gives way, so that one copy goes.
            if self._going[key] or node_id > self._mesh.node_id:
                raise ConflictError(f"this node is about to drop its own copy of {own}")
            del self._going[key]

    async def _free_bytes(self) -> int:
        return await asyncio.to_thread(free_bytes, self._catalogue.folder)

    async def _drop_copies(self, lacking_bytes: int, why: str, *, in_part: bool) -> int:
        """Drops copies until so many bytes more are free; how many lack then. With `in_part` also where all together
        are not enough."""
        models = {key_of(model): model for model in await asyncio.to_thread(self._catalogue.copied)}
        called_s = await self._called_s(models.values())
        if lacking_bytes <= 0 or self._catalogue.keeps_all:  # what is deleted during a backup frees nothing yet
            return lacking_bytes
        sharing = await asyncio.to_thread(self._sharing)
        staying = {key: model for key, model in models.items() if key not in self._going}
        copies = [self._made_copy(key, model, called_s[key], sharing) for key, model in staying.items()]
        while lacking_bytes > 0:
            doomed = copies_to_drop(copies, lacking_bytes, time.time())
            if not doomed or (not in_part and sum(copy.frees_bytes for copy in doomed) < lacking_bytes):
                break
            copy = doomed[0]
            copies.remove(copy)
            # Whoever wanted the room may give up meanwhile: what was begun is done to its end.
            if await asyncio.shield(asyncio.ensure_future(self._drop(models[copy.key], copy, why))):
                lacking_bytes -= copy.frees_bytes
        return lacking_bytes

    async def _called_s(self, models: Iterable[ModelVersion]) -> dict[str, float]:
        """When each was last called here, or came (Unix time). The artifact's folder remembers it over a restart."""
        used = {key_of(model): (Path(model.folder), self._use(model)[1]) for model in models}
        now_s = time.time()
        return await asyncio.to_thread(
            lambda: {key: _remembered_s(folder, now_s - idle_s, now_s) for key, (folder, idle_s) in used.items()}
        )

    def _sharing(self) -> Counter[str]:
        """How many versions on this node have each artifact."""
        return Counter(version.digest for entry in self._catalogue.held() for version in entry.versions)

    def _made_copy(self, key: str, model: ModelVersion, called_s: float, sharing: Counter[str]) -> MadeCopy:
        holders = self._catalogue.holders(model) if not self._catalogue.conflict(model) else ()
        others, needed = who_must_keep(key, self._wish(model.name), self._places(), holders, self._mesh.node_id)
        frees_bytes = model.size_bytes if sharing[model.digest] == 1 else 0
        busy = self._use(model)[0] or model.digest in self._copying()
        return MadeCopy(key, frees_bytes, called_s, busy, others, needed)

    async def _drop(self, model: ModelVersion, copy: MadeCopy, why: str) -> bool:
        """Whether it is gone. It stays where too few nodes keep theirs, or somebody has called it meanwhile."""
        self._going[copy.key] = False
        try:
            keeping = await self._keeping(model, copy)
            is_warm, idle_s = self._use(model)
            if copy.key not in self._going or len(keeping) < copy.needed or is_warm or idle_s < CALLED_LATELY_S:
                return False
            self._going[copy.key] = True
            if not await asyncio.to_thread(self._catalogue.drop_copy, model):
                return False
        except IngleError as error:
            _log.warning("the copy of %s is not dropped: %s", model, error.sentence)
            return False
        finally:
            self._going.pop(copy.key, None)
        self._forget(model, None)
        _log.info(
            "%s is gone from this node, where the mesh had copied it by itself: %s. Nobody called it here for %d "
            "minutes; it is on %s",
            model,
            why,
            (time.time() - copy.called_s) / 60,
            ", ".join(keeping),
        )
        return True

    async def _keeping(self, model: ModelVersion, copy: MadeCopy) -> list[str]:
        """The names of the nodes that have said that they keep theirs, no more than are needed."""
        names = {place.node_id: place.name for place in self._places()}
        keeping: list[str] = []
        for node_id in copy.others:
            if len(keeping) == copy.needed:
                break
            try:
                ask = Order(0, "keep", str(model.name), str(model.version), model.digest)
                await self._order(node_id, ask, ASK_S)
                keeping.append(names.get(node_id, node_id))
            except IngleError as error:
                _log.debug("node %s does not keep its copy of %s: %s", node_id[:12], model, error.sentence)
        return keeping


def free_bytes(folder: Path) -> int:
    """What the disk with `folder` has left for this node. Raises IngleError."""
    with disk_faults(folder):
        return shutil.disk_usage(folder).free


def _remembered_s(folder: Path, used_s: float, now_s: float) -> float:
    """When what lies there was last used, which its folder is told if it has not heard it. What is to come was now: the
    clock has been set back."""
    try:
        known_s = folder.stat().st_mtime
        latest_s = min(now_s, max(known_s, used_s))
        if latest_s < known_s or latest_s > known_s + _TOUCH_S:
            os.utime(folder, (latest_s, latest_s))
    except OSError:
        return now_s  # it is looked at again
    return latest_s


def _lies_whole(model: ModelVersion) -> bool:
    """Whether the artifact's files are there. Not that they are the same to the bit: that takes long, and is found out
    by whoever fetches it."""
    try:
        return sum(path.stat().st_size for path in Path(model.folder).rglob("*") if path.is_file()) == model.size_bytes
    except OSError:
        return False


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
