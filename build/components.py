"""What is inside the one file, as the list tells that its build wrote: for `ingle licenses`, and as CycloneDX."""

import json
import subprocess
import sys
import sysconfig
import uuid
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import msgspec

from appliance.core.licences import OWN, Component, components_of

_OWN_PACKAGES = {"appliance", "federation", "converters", "entry"}
_STUB_PACKAGES = ("libc6-dev", "libzstd-dev")  # linked into the stub


class Inside(NamedTuple):
    """Parts from Python's registry, and parts of the system that builds."""

    python: list[Component]
    system: list[Component]


def find(listed: Path) -> Inside:
    """`listed`: JSON, the name inside and the path of each module and library."""
    distributions, system = {OWN, "pyinstaller"}, set(_STUB_PACKAGES)
    by_module = metadata.packages_distributions()
    for name, path in json.loads(listed.read_text()):
        module = name.replace("/", ".").split(".")[0]
        if "site-packages" in path or module in by_module:
            distributions.update(by_module.get(module, ()) or _of_library(path))
        elif path.startswith(("/lib", "/usr/lib")):
            system.add(_debian_package(path))
    return Inside(components_of(distributions), [_python(), *(_debian(name) for name in sorted(system - {""}))])


def _of_library(path: str) -> set[str]:
    """A wheel's own libraries lie in NAME.libs beside it."""
    folder = next((part for part in Path(path).parts if part.endswith(".libs")), "")
    return {folder.removesuffix(".libs")} - {""}


def _python() -> Component:
    text = Path(sysconfig.get_paths()["stdlib"], "LICENSE.txt")
    texts = (text.read_text(),) if text.is_file() else ()
    return Component("Python", sys.version.split()[0], "PSF-2.0", "https://www.python.org", texts)


@cache
def _debian_package(path: str) -> str:
    for known in (path, path.removeprefix("/usr"), str(Path(path).resolve())):
        done = subprocess.run(["dpkg", "-S", known], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    return ""


def _debian(package: str) -> Component:
    asked = ["dpkg-query", "-W", "-f", "${Version}", package]
    version = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    text = Path("/usr/share/doc", package, "copyright")
    texts = (text.read_text(),) if text.is_file() else ()
    return Component(package, version, "as its text says", f"https://packages.debian.org/{package}", texts)


def licences(inside: Inside) -> str:
    """What `ingle licenses` reads."""
    return msgspec.json.encode(sorted([*inside.python, *inside.system], key=lambda part: part.name.lower())).decode()


def bill_of_materials(inside: Inside, epoch_s: str) -> str:
    """CycloneDX 1.6. The same parts and time give the same document."""
    own = next(part for part in inside.python if part.name == OWN)
    parts = [_entry(part, f"pkg:pypi/{part.name.lower()}@{part.version}") for part in inside.python if part is not own]
    parts += [_entry(part, f"pkg:deb/debian/{part.name}@{part.version}") for part in inside.system[1:]]
    parts.append(_entry(inside.system[0], f"pkg:generic/python@{inside.system[0].version}"))
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(parts))}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(int(epoch_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {"type": "application", "name": own.name, "version": own.version, "bom-ref": own.name},
        },
        "components": parts,
    }
    return json.dumps(document, indent=1) + "\n"


def _entry(part: Component, purl: str) -> dict[str, object]:
    entry: dict[str, object] = {"type": "library", "bom-ref": purl, "name": part.name, "version": part.version}
    return entry | {"purl": purl, "licenses": [{"license": {"name": part.licence}}]}
