"""What can be set, and where it is said: flags before INGLE_... variables before a TOML file before defaults.

Read by node.py and the CLI alone. Every subsystem declares its own part, a frozen struct with a default and a
description for each field; this file puts them together and derives each setting's three spellings from its place:

    field                    flag                  environment           TOML
    http                     --http                INGLE_HTTP            http = "..."
    memory_budget_bytes      --memory-budget       INGLE_MEMORY_BUDGET   memory_budget = "4GiB"
    workers.idle_s           --workers-idle-s      INGLE_WORKERS_IDLE_S  [workers] idle_s = 300

A field in bytes drops its unit from the spelling, because the value may carry one.
Nothing here knows what a setting does.
"""

import difflib
import os
import re
import socket
import tomllib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from appliance.core.addresses import OFF, parse_address
from appliance.core.errors import BadInputError, NotFoundError
from appliance.core.sizes import LEAST_BYTES, parse_size
from appliance.gateway.settings import GatewaySettings
from appliance.routing.settings import RoutingSettings
from appliance.workers.devices import parse_device
from appliance.workers.settings import WorkerSettings
from federation.settings import MeshSettings

CONFIG_NAME = "ingle.toml"
ADDRESS_FIELDS = ("http", "grpc", "zmq", "mesh")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything a node is told, as it runs with it. Made by load_settings()."""

    http: Annotated[str, Meta(description="where HTTP answers: HOST:PORT, or off")] = "0.0.0.0:8000"
    grpc: Annotated[str, Meta(description="where gRPC answers: HOST:PORT, or off")] = "0.0.0.0:8001"
    zmq: Annotated[str, Meta(description="where ZeroMQ answers: HOST:PORT, or off")] = "0.0.0.0:8003"
    mesh: Annotated[str, Meta(description="where other nodes of the mesh reach this one: HOST:PORT, or off")] = (
        "0.0.0.0:8004"
    )
    data_dir: Annotated[Path, Meta(description="the folder of models, keys and records")] = Path()
    ready_file: Annotated[
        Path | None, Meta(description="a JSON file of the node's addresses, written once all of them answer")
    ] = None
    open: Annotated[bool, Meta(description="anyone may call models and read the catalogue without a key")] = False
    device: Annotated[str, Meta(description="where models run: auto, cpu, cuda[:N] or tensorrt[:N]")] = "auto"
    memory_budget_bytes: Annotated[
        int, Meta(ge=0, description="memory that warm models may use together; 0: the node decides")
    ] = 0
    fronts: Annotated[
        int, Meta(ge=1, le=64, description="processes that take connections, all on the same ports; 1: the node's own")
    ] = 1
    allow_shared_memory: Annotated[
        bool, Meta(description="callers on this box may send and receive tensors in shared memory")
    ] = False
    mesh_key_file: Annotated[
        Path | None,
        Meta(description="the file with the mesh's key, 64 hexadecimal digits; INGLE_MESH_KEY has the key itself"),
    ] = None
    join: Annotated[
        str, Meta(description="HOST:PORT of a node of the mesh, where multicast finds none; several: commas")
    ] = ""
    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,128}$",
            description="what this node is called, in letters, digits, '.', '_' and '-'; unset: as the host is",
        ),
    ] = ""
    tls_cert: Annotated[
        Path | None, Meta(description="the TLS certificate in PEM form, its issuers behind it; HTTP and gRPC speak TLS")
    ] = None
    tls_key: Annotated[Path | None, Meta(description="the private key of tls_cert, in PEM form, no passphrase")] = None
    tls: Annotated[
        str, Meta(pattern="^(self)?$", description="'self': the node makes a certificate of its own and speaks TLS")
    ] = ""
    federation: MeshSettings = MeshSettings()
    gateway: GatewaySettings = GatewaySettings()
    routing: RoutingSettings = RoutingSettings()
    workers: WorkerSettings = WorkerSettings()


class Setting(NamedTuple):
    """One thing that can be set, with its three spellings. `path` is where its value lies in Settings."""

    path: tuple[str, ...]
    type: Any
    default: Any
    description: str

    @property
    def key(self) -> str:
        """The dotted TOML key: `workers.idle_s`."""
        return ".".join(self.path).removesuffix("_bytes")

    @property
    def flag(self) -> str:
        return "--" + self.key.replace(".", "-").replace("_", "-")

    @property
    def variable(self) -> str:
        return "INGLE_" + self.key.replace(".", "_").upper()

    @property
    def is_size(self) -> bool:
        return self.path[-1].endswith("_bytes")

    @property
    def least_bytes(self) -> int:
        """Of a size that is not 0: what is declared, else LEAST_BYTES."""
        declared = next((meta.ge for meta in self.type.__metadata__ if isinstance(meta, Meta)), None)
        return int(declared or 0) or LEAST_BYTES


def _declared(struct: type[msgspec.Struct], path: tuple[str, ...] = ()) -> Iterator[Setting]:
    hints = typing.get_type_hints(struct, include_extras=True)
    for field in msgspec.structs.fields(struct):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
            yield from _declared(hint, (*path, field.name))
            continue
        description = next(meta.description for meta in hint.__metadata__ if isinstance(meta, Meta))
        yield Setting((*path, field.name), hint, field.default, description or "")


SETTINGS: tuple[Setting, ...] = tuple(_declared(Settings))


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """Where a node keeps its data unless told: /var/lib/ingle for root, the XDG data home for others. Raises
    BadInputError where this user has none."""
    system = Path("/var/lib/ingle")
    if os.geteuid() == 0 and os.access(system if system.exists() else system.parent, os.W_OK):
        return system
    # The XDG base directory specification: an unset, empty or relative value counts as not set.
    home = environ.get("XDG_DATA_HOME", "")
    return (Path(home) if home.startswith("/") else _at_home(Path("~/.local/share"))) / "ingle"


def _at_home(path: Path) -> Path:
    """With the user's home folder for a tilde."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise BadInputError(
            "this user has no home folder (HOME is not set, and the list of users does not know it): say with "
            "--data-dir or INGLE_DATA_DIR where a node's data is to be"
        ) from None


def load_settings(
    flags: Mapping[str, object] | None = None, environ: Mapping[str, str] = os.environ, config: Path | None = None
) -> Settings:
    """The settings as said. `flags` maps a setting's key to its value, None where the flag was not given.

    `config` is the TOML file to read; without it INGLE_CONFIG, then `ingle.toml` in the data folder where there is
    one. Raises BadInputError naming the flag, variable or key that is wrong, NotFoundError where there is no such file.
    """
    said: dict[str, tuple[str, object]] = {
        s.key: (s.variable, environ[s.variable]) for s in SETTINGS if s.variable in environ
    }
    said |= {s.key: (s.flag, flags[s.key]) for s in SETTINGS if flags and flags.get(s.key) is not None}
    if config is None and environ.get("INGLE_CONFIG"):
        config = Path(environ["INGLE_CONFIG"])
    data_dir = _at_home(Path(str(said["data_dir"][1]))) if "data_dir" in said else default_data_dir(environ)
    if config is not None:
        said = _read_toml(config) | said
    elif (found := data_dir / CONFIG_NAME).is_file():
        table = _read_toml(found)
        if "data_dir" in table:
            raise BadInputError(f"{found}: the data folder's own file cannot set data_dir; use --data-dir or --config")
        said = table | said
    values: dict[str, Any] = {"data_dir": data_dir}
    for setting in SETTINGS:
        if setting.key in said:
            place = values
            for part in setting.path[:-1]:
                place = place.setdefault(part, {})
            place[setting.path[-1]] = _value(setting, *said[setting.key])
    settings = msgspec.convert(values, Settings, strict=False)
    return msgspec.structs.replace(
        settings, data_dir=_at_home(settings.data_dir).absolute(), name=settings.name or _host_name()
    )


def check_together(settings: Settings) -> None:
    """Whether settings that are right each by itself make sense together. Raises BadInputError."""
    if settings.http == settings.grpc == OFF:
        raise BadInputError("http and grpc are both off, so nobody could reach the node: leave one of them on")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise BadInputError("--tls-cert and --tls-key go together: name both, or let the node make its own: --tls self")
    if settings.tls and settings.tls_cert is not None:
        raise BadInputError("--tls self makes a certificate and --tls-cert names one: leave one of the two out")
    for address in filter(None, settings.join.split(",")):
        if parse_address(address.strip()) is None:
            raise BadInputError(f"--join is '{settings.join[:80]}': expected HOST:PORT of a node of the mesh")
    if settings.mesh == OFF and (settings.join or settings.mesh_key_file is not None):
        raise BadInputError("--join and --mesh-key-file are about the mesh, and --mesh is off: leave that out")


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:128] or "node"


def _read_toml(path: Path) -> dict[str, tuple[str, object]]:
    """Each key that the file sets, dotted, with where it was said. Raises BadInputError, NotFoundError."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise NotFoundError(f"{path} is not there: expected a TOML file of settings") from None
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is no TOML: {error}") from None
    known = [setting.key for setting in SETTINGS]
    said: dict[str, tuple[str, object]] = {}
    for key, value in _flatten(tables):
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
            raise BadInputError(f"{path}: '{key}' is no setting; the nearest is '{near[0]}'")
        said[key] = (f"{path}: {key}", value)
    return said


def _flatten(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _value(setting: Setting, source: str, raw: object) -> Any:
    """The value that was said, checked against its declaration. Raises BadInputError naming the source."""
    if isinstance(raw, Path):
        raw = str(raw)
    try:
        if setting.is_size:
            raw = parse_size(raw, least_bytes=setting.least_bytes)
        if setting.path[0] in ADDRESS_FIELDS:
            parse_address(str(raw))
        if setting.key == "device":
            parse_device(str(raw))
        return msgspec.convert(raw, setting.type, strict=False, dec_hook=_path)
    except BadInputError as error:
        raise BadInputError(f"{source}: {error}") from None
    except msgspec.ValidationError as error:
        sentence = str(error)[:1].lower() + str(error)[1:]
        for kind, words in _KINDS.items():
            sentence = sentence.replace(f"expected `{kind}`, got `str`", f"expected {words}")
        if "matching regex" in sentence:  # the description says what is expected
            raise BadInputError(f"{source}: {raw!r} cannot be taken: {setting.description}") from None
        raise BadInputError(f"{source}: {raw!r} cannot be taken: {sentence} ({setting.description})") from None


_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def _path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str) and value:
        return Path(value)
    raise msgspec.ValidationError(f"expected a {kind.__name__.lower()}, got {value!r}")
