"""The composition root: builds a node from its settings, starts it, drains it, stops it. All wiring is here.

Runs in the gateway process. Knows every subsystem and no detail of any.
"""

import asyncio
import contextlib
import gc
import json
import logging
import os
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.packing import Package, find_package, stream
from appliance.catalogue.profiles import Profiles
from appliance.core.addresses import Address, parse_address
from appliance.core.allocator import TRIM_EVERY_S, give_back_freed, set_up_allocator
from appliance.core.data_lock import lock_data_folder
from appliance.core.database import drop_snapshots
from appliance.core.durable import disk_faults, write_durably
from appliance.core.errors import IngleError, UnavailableError
from appliance.core.listening import why_not
from appliance.core.machine import bound_umask, memory_bytes, raise_descriptor_limit
from appliance.core.names import name_from_stem
from appliance.core.own_program import one_file_path
from appliance.core.release import this_build
from appliance.core.swap import finish_swap
from appliance.core.trial import Trial, end_trial, is_committed, is_on_trial, read_trial, settle, write_trial
from appliance.gateway.dataplane import DataPlane
from appliance.gateway.fronts import Fronts
from appliance.gateway.grpc_front import GrpcFront
from appliance.gateway.http import HttpFront
from appliance.gateway.shared_memory import SharedMemory
from appliance.gateway.vouching import Vouching
from appliance.gateway.zmq_front import ZmqFront
from appliance.node_mesh import NodeMesh
from appliance.observability.logs import set_up_logs
from appliance.observability.tracing import Tracer
from appliance.routing.memory_budget import BUDGET_SHARE
from appliance.routing.own_state import OwnState
from appliance.routing.scheduler import Scheduler
from appliance.security.keys import KeyRing
from appliance.security.scopes import Principal, Scope
from appliance.security.tls import CERTIFICATE_NAME, Tls, read_tls
from appliance.settings import Settings, load_settings
from appliance.variables import unknown_variables
from appliance.workers.device_engines import DeviceEngines
from appliance.workers.devices import parse_device
from appliance.workers.engine_cache import EngineCache
from appliance.workers.gpu import Gpu
from appliance.workers.graph_cache import GraphCache
from appliance.workers.inspector import Inspector
from appliance.workers.optimiser import Optimiser
from appliance.workers.processes import Processes
from appliance.workers.supervisor import Supervisor
from appliance.workers.translator import Translator
from federation.identity import load_identity
from federation.interfaces import read_interfaces
from federation.own_addresses import own_addresses

NODE_FILE = "node.json"
# Of the box's memory, how much one worker may take where neither owner nor manifest says.
_MEMORY_SHARE = 0.8
_GRPC_GRACE_S = 5.0
SAVE_USAGE_S = 5.0
_MAX_SHOWN = 2  # of a box's addresses
LOOK_FOR_COMMIT_S = 0.1

# Who started the node may deploy what the command line names.
_OWNER = Principal("", "owner", (Scope("admin"),))

_log = logging.getLogger("ingle.node")


class Node:
    """One node of Ingle: start(), run() until told to end, stop()."""

    def __init__(self, settings: Settings) -> None:
        """Opens what the data folder holds. Raises BusyError where another node has it open, IngleError where it
        cannot be read. Call in the event loop that the node is to run in."""
        self._settings = settings
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = lock_data_folder(settings.data_dir)
        except OSError as error:
            raise IngleError(
                f"{settings.data_dir} cannot hold a node's data ({error.strerror}): name a folder that this user can "
                "write, with --data-dir or INGLE_DATA_DIR"
            ) from None
        self.name = settings.name or socket.gethostname() or "ingle"
        with disk_faults(settings.data_dir):
            identity = load_identity(settings.data_dir)
        self.node_id = identity.node_id
        if taken_back := settle(settings.data_dir):
            _log.warning("%s", taken_back)
        self.trial = read_trial(settings.data_dir) if is_on_trial() else None
        if finish_swap(settings.data_dir):
            _log.warning("a restore that was cut short after it had been decided is done now")
        self._catalogue = Catalogue(settings.data_dir)
        self._keys = KeyRing(settings.data_dir, node_name=self.name)
        self._processes = Processes()
        data_bytes = int(memory_bytes() * _MEMORY_SHARE)
        providers = ("CPUExecutionProvider",)
        graphs = GraphCache(settings.data_dir / "cache", budget_bytes=settings.workers.graph_cache_bytes)
        self._optimiser = Optimiser(self._processes, graphs, data_bytes=data_bytes)
        engines = DeviceEngines(
            EngineCache(settings.data_dir / "cache", budget_bytes=settings.workers.engine_cache_bytes)
        )
        self._gpu = Gpu(
            self._processes,
            parse_device(settings.device),
            engines,
            data_dir=settings.data_dir,
            tf32=settings.workers.tf32,
        )
        self._supervisor = Supervisor(
            self._processes,
            settings.workers,
            providers=providers,
            data_bytes=data_bytes,
            profiles=Profiles(settings.data_dir),
            living_digests=self._catalogue.digests,
            optimiser=self._optimiser,
            gpu=self._gpu,
        )
        self._scheduler = Scheduler(
            self._supervisor,
            settings.routing,
            budget_bytes=settings.memory_budget_bytes or int(memory_bytes() * BUDGET_SHARE),
            cores=len(os.sched_getaffinity(0)),
            idle_s=settings.workers.idle_s,
            scale_of=self._catalogue.scale_of,
            pinned=self._catalogue.pinned,
        )
        self.dataplane = DataPlane(
            catalogue=self._catalogue,
            keys=self._keys,
            supervisor=self._supervisor,
            scheduler=self._scheduler,
            inspector=Inspector(self._processes, providers=providers, data_bytes=data_bytes),
            settings=settings.gateway,
            node_name=self.name,
            open_to_all=settings.open,
            shared_memory=SharedMemory(allowed=settings.allow_shared_memory, max_bytes=settings.gateway.max_body_bytes),
            tracer=Tracer(settings.data_dir / "traces"),
        )
        http, grpc, zmq = (parse_address(setting) for setting in (settings.http, settings.grpc, settings.zmq))
        self.tls = _tls(settings)
        self._fronts: Fronts | None = None
        self._http: HttpFront | None = None
        self._grpc: GrpcFront | None = None
        if settings.fronts > 1:
            folder = settings.data_dir / "fronts"
            self._fronts = Fronts(self.dataplane, settings.fronts, http, grpc, self.tls, folder)
        else:
            self._http = HttpFront(self.dataplane, http, self.tls) if http else None
            self._grpc = GrpcFront(self.dataplane, grpc, self.tls) if grpc else None
        # Also with several fronts: ZeroMQ's callers stay with the process that has the workers.
        self._zmq = ZmqFront(self.dataplane, zmq) if zmq else None
        self._mesh: NodeMesh | None = None
        if (mesh := parse_address(settings.mesh)) is not None:
            own_state = OwnState(self._supervisor, self._scheduler, lambda: self._gpu.free_bytes)
            translator = Translator(self._processes, data_bytes=data_bytes)
            self._mesh = NodeMesh(
                settings, mesh, identity, self.dataplane, self._catalogue, own_state, translator, engines
            )
        self.mesh_address: Address | None = None
        self.bulk_address: Address | None = None
        self._saving: asyncio.Task[None] | None = None
        self._watching: list[asyncio.Task[None]] = []
        self.http_address: Address | None = None
        self.grpc_address: Address | None = None
        self.zmq_address: Address | None = None

    async def start(self, files: Sequence[Path]) -> None:
        """Starts the processes, deploys `files`, opens the fronts, and writes the ready file.

        Raises OSError where an address cannot be had, IngleError where a file is no model.
        """
        ready = await self._processes.start()
        _log.info("onnxruntime %s, sandbox: %s", ready.runtime, ", ".join(n for n, active, _ in ready.layers if active))
        for name, active, detail in ready.layers:
            if not active:
                _log.warning("models run without a layer of their sandbox, %s: %s", name, detail)
        if fault := Vouching(self._settings.gateway.trusted_keys).fault():
            _log.error("%s", fault)
        await self._optimiser.start(self._catalogue.digests())
        await self._gpu.start(self._catalogue.digests())
        await self._supervisor.start()
        loop = asyncio.get_running_loop()
        self._watching = [
            loop.create_task(self.dataplane.watch.watch_for_ever()),
            loop.create_task(_give_back_for_ever()),
        ]
        self._saving = asyncio.create_task(self._save_usage())
        for file in files:
            await self._deploy(file)
        # Before the fronts open: the first caller must find a node that is ready.
        self.dataplane.started = True
        http_port, grpc_port = await self._listen()
        self.http_address = _reachable(self._settings.http, http_port)
        self.grpc_address = _reachable(self._settings.grpc, grpc_port)
        self.zmq_address = _reachable(self._settings.zmq, await self._zmq.start() if self._zmq else 0)
        if self._mesh is not None:
            fronts = [front.port if front else 0 for front in (self.http_address, self.grpc_address, self.zmq_address)]
            mesh_port, bulk_port = await self._mesh.start(
                http=fronts[0], grpc=fronts[1], zmq=fronts[2], tls_fingerprint=self.tls.fingerprint if self.tls else ""
            )
            self.mesh_address = _reachable(self._settings.mesh, mesh_port)
            self.bulk_address = _reachable(self._settings.mesh, bulk_port)
        text = json.dumps(self.ready_file(), indent=2) + "\n"
        try:
            write_durably(self._settings.data_dir / NODE_FILE, text.encode())
        except OSError as error:  # a full disk keeps nobody from calling
            _log.error(
                "the command line will not find this node by itself: %s cannot be written (%s)", NODE_FILE, error
            )
        if self._settings.ready_file is not None:
            write_durably(self._settings.ready_file, text.encode())
        if self.trial is None:
            drop_snapshots(self._settings.data_dir)
        else:
            write_trial(self._settings.data_dir, self.trial, "ready")
            self._watching.append(loop.create_task(self._prove(self.trial)))

    async def _prove(self, trial: Trial) -> None:
        """Ends the trial of this program once it is the file that is started next time."""
        while not await asyncio.to_thread(is_committed, trial):  # noqa: ASYNC110 - another process commits it
            await asyncio.sleep(LOOK_FOR_COMMIT_S)
        self.trial = None
        drop_snapshots(self._settings.data_dir)
        end_trial(self._settings.data_dir)
        _log.info("the update from %s to %s is done", trial.version_before, trial.version)

    async def _listen(self) -> tuple[int, int]:
        """Opens the fronts; the ports of HTTP and gRPC, 0 for one that is off."""
        if self._fronts is not None:
            return await self._fronts.start()
        return (
            0 if self._http is None else await self._http.start(),
            0 if self._grpc is None else await self._grpc.start(),
        )

    @property
    def mesh_words(self) -> str:
        """What its owner is told of its mesh; empty where it is in none."""
        return self._mesh.words() if self._mesh is not None else ""

    def ready_file(self) -> dict[str, object]:
        """What is told of a node that is up; addresses that others can use."""
        return {
            "node_id": self.node_id,
            "name": self.name,
            "pid": os.getpid(),
            "http": self.http_address and str(self.http_address),
            "grpc": self.grpc_address and str(self.grpc_address),
            "zmq": self.zmq_address and str(self.zmq_address),
            "mesh": self.mesh_address and str(self.mesh_address),
            "bulk": self.bulk_address and str(self.bulk_address),
            "admin_key_file": str(self._keys.admin_key_file),
            "tls_fingerprint": self.tls and self.tls.fingerprint,
            "version": this_build().version,
            "file": one_file_path(),
        }

    async def _deploy(self, file: Path) -> None:
        incoming = await asyncio.to_thread(self._catalogue.new_incoming)
        try:
            upload = incoming / "upload"
            package = await asyncio.to_thread(_copy, file, upload)
            result = await self.dataplane.deployer.deploy(
                upload, incoming, _OWNER, name=package.manifest.name or name_from_stem(package.stem), version=""
            )
        except IngleError as error:
            said = error.sentence.removeprefix(f"{file.name} ")  # some name the file themselves, without its folder
            raise type(error)(f"{file}{' ' if said != error.sentence else ': '}{said}") from None
        finally:
            await asyncio.to_thread(self._catalogue.discard, incoming)
        _log.info("%s serves %s", file, result.model)

    async def _save_usage(self) -> None:
        """Writes what keys used of their quotas, now and then: a kill forgets no more than was used since."""
        while True:
            await asyncio.sleep(SAVE_USAGE_S)
            try:
                await asyncio.to_thread(self._keys.save_usage)
            except IngleError as error:
                _log.warning("what is used of quotas was not saved: %s", error.sentence)

    async def drain(self) -> None:
        """Takes no new calls and waits for those in flight, as long as the settings say."""
        if self._mesh is not None:
            await self._mesh.drain()
        try:
            await asyncio.wait_for(self.dataplane.drain(), self._settings.gateway.drain_s)
        except TimeoutError:
            _log.warning("calls were still in flight after %g s: they are cut off", self._settings.gateway.drain_s)
        if self._mesh is not None:
            await self._mesh.wait_until_heard()

    async def stop(self) -> None:
        """Closes the fronts, ends every process, and lets the data folder go."""
        with contextlib.suppress(OSError):
            (self._settings.data_dir / NODE_FILE).unlink()
        if self._fronts is not None:
            await self._fronts.stop(_GRPC_GRACE_S)
        if self._grpc is not None:
            await self._grpc.stop(_GRPC_GRACE_S)
        if self._zmq is not None:
            await self._zmq.stop()
        if self._http is not None:
            await self._http.stop()
        if self._saving is not None:
            self._saving.cancel()
        for task in self._watching:
            task.cancel()
        if self._mesh is not None:
            await self._mesh.stop()
        await self.dataplane.tracer.stop()
        await self._supervisor.stop()
        await self._optimiser.stop()
        await self._gpu.stop()
        await self._processes.stop()
        self._catalogue.close()
        self._keys.close()
        os.close(self._lock)


def _tls(settings: Settings) -> Tls | None:
    """What the fronts speak TLS with, where they shall. Raises NotFoundError, BadInputError where a file is not there
    or not fit for it."""
    if settings.tls:
        # Only here: the library that makes certificates is large, and most nodes make none.
        from appliance.security.certificates import self_made

        bundle = self_made(settings.data_dir)
        return read_tls(bundle, bundle)
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return read_tls(settings.tls_cert, settings.tls_key)


async def _give_back_for_ever() -> None:
    while True:
        await asyncio.sleep(TRIM_EVERY_S)
        give_back_freed()


def _copy(file: Path, upload: Path) -> Package:
    """The model, and what it keeps in other files, as a deploy would send it."""
    package = find_package(file)
    with upload.open("wb") as target:
        target.writelines(stream(package))
    return package


def _reachable(setting: str, port: int) -> Address | None:
    """Where a front that listens on this port can be reached from this box; None for one that is off."""
    address = parse_address(setting)
    if address is None:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)
    return Address(host, port)


def _from_other_boxes(settings: Settings, http_port: int) -> list[Address]:
    """Where HTTP is reached from other boxes, where it listens at all addresses: the likeliest."""
    said = parse_address(settings.http)
    if said is None or said.host not in ("0.0.0.0", "::"):
        return []
    hosts = own_addresses(read_interfaces(), bound_to=said.host, advertise=settings.federation.advertise)
    outward = [host for host in hosts if not (ip_address(host).is_loopback or ip_address(host).is_link_local)]
    return [Address(host, http_port) for host in outward[:_MAX_SHOWN]]


def _how_it_is_found(data_dir: Path) -> str:
    """What the command line needs to find the node: it looks where it would keep one itself."""
    try:
        usual = load_settings().data_dir
    except IngleError:  # what the environment says is wrong: the flags were right
        usual = None
    if data_dir == usual:
        return "`ingle` finds it by itself"
    return f"`INGLE_DATA_DIR={shlex.quote(str(data_dir))} ingle` finds it by itself"


def _announce(node: Node, settings: Settings) -> None:
    """What a person who started the node is told."""
    http, key_file = node.http_address, node.ready_file()["admin_key_file"]
    scheme = "https" if node.tls else "http"
    lines = [f"Ingle {this_build().version}, node '{node.name}' is ready."]
    if http:
        elsewhere = "".join(f", {scheme}://{address}" for address in _from_other_boxes(settings, http.port))
        lines.append(f"  HTTP  {scheme}://{http}{elsewhere}   (OpenAPI at /openapi.json)")
    if node.grpc_address:
        lines.append(f"  gRPC  {node.grpc_address}" + ("   (TLS)" if node.tls else ""))
    if node.zmq_address:
        lines.append(f"  ZeroMQ  tcp://{node.zmq_address}")
    if node.mesh_words:
        lines.append(f"  mesh  {node.mesh_words}")
    if node.tls:
        lines.append(f"  TLS   certificate {node.tls.chain_file}, SHA-256 {node.tls.fingerprint}")
    lines.append(f"  admin key in {key_file}; on this box and user, {_how_it_is_found(settings.data_dir)}")
    if http:
        trusted = f"--cacert {settings.data_dir / CERTIFICATE_NAME} " if settings.tls else ""
        lines.append(
            f'  curl {trusted}-H "Authorization: Bearer $(cat {shlex.quote(str(key_file))})" {scheme}://{http}/v1/models'
        )
    if settings.open:
        lines.append("  OPEN: anyone who reaches this node may call its models and read its catalogue")
    lines += [f"  warning: {sentence}" for sentence in unknown_variables()]
    print("\n".join(lines), flush=True)


class _Orders:
    """What signals say, from now on: `came` is set by each that ends the node's service."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.came = asyncio.Event()
        self.update: Trial | None = None
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        loop.add_signal_handler(signal.SIGINT, self._end)
        loop.add_signal_handler(signal.SIGUSR2, self._change)

    def _end(self) -> None:
        self.update = None
        self.came.set()

    def _change(self) -> None:
        trial = read_trial(self._data_dir)
        if trial is None or trial.stage != "asked" or not one_file_path():
            _log.warning("SIGUSR2, and no update of this node was asked for: nothing is done")
            return
        self.update = trial
        self.came.set()


def _check_addresses(settings: Settings) -> None:
    """Raises IngleError for the first address that cannot be had: before minutes of work, and in words that say which
    of them it is. Who takes one in between makes the front's own start fail."""
    for front in ("http", "grpc", "zmq", "mesh"):
        address = parse_address(getattr(settings, front))
        if address is None:
            continue
        # Of a name's addresses HTTP takes all or fails; the others are content with one.
        why = why_not(address, every=front == "http")
        if why := why or (why_not(address, datagrams=True) if front == "mesh" else ""):
            raise IngleError(
                f"the node could not start: it cannot listen on {address}, {why}; name another address with "
                f"--{front} HOST:PORT"
            )


async def serve(settings: Settings, files: Sequence[Path]) -> Trial | None:
    """Runs a node until SIGTERM or SIGINT, and drains it; or until SIGUSR2 where an update was asked for, which is
    returned then, for the caller to become it.

    A second signal ends it without draining. Raises IngleError and OSError where it cannot start.
    """
    set_up_allocator()
    set_up_logs()
    for sentence in unknown_variables():
        _log.warning("%s", sentence)
    raise_descriptor_limit()
    bound_umask()
    node = Node(settings)
    orders = _Orders(settings.data_dir)
    told = orders.came
    try:
        _check_addresses(settings)
        try:
            await node.start(files)
        except (ConnectionError, TimeoutError) as error:
            raise UnavailableError(f"the node could not start: {error}") from None
        _announce(node, settings)
        # What was made so far stays: the collector need not walk it again and again, which took 37 ms each time.
        gc.collect()
        gc.freeze()
        await told.wait()
        told.clear()
        if node.trial is not None:  # its owner ends it: the watch must not start the one before
            write_trial(settings.data_dir, node.trial, "ended")
        print("draining: no new calls, those in flight finish (again to end at once)", file=sys.stderr, flush=True)
        drain = asyncio.ensure_future(node.drain())
        again = asyncio.ensure_future(told.wait())
        await asyncio.wait((drain, again), return_when=asyncio.FIRST_COMPLETED)
        for task in (drain, again):
            task.cancel()
        await asyncio.gather(drain, again, return_exceptions=True)
    finally:
        await node.stop()
    return orders.update
