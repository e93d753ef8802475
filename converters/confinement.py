"""What the process of a conversion may touch: to read the system and the model, to write into its own folder.

No network, no new privileges, bounded memory and files, and no other program, unless the framework needs one.
"""

import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from appliance.core.own_program import program_folder
from appliance.sandbox import confine as sandbox
from appliance.sandbox.confine import Layer
from converters.job import Job, Word

SayWord = Callable[[Word], None]

# Frameworks read what they find: processors, locales, time zones, libraries. Not home folders, keys or other data.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
    "/etc/alternatives", "/etc/nsswitch.conf", "/etc/hosts", "/etc/passwd", "/opt/java", "/proc/self", "/proc/cpuinfo",
    "/proc/meminfo", "/proc/stat", "/proc/sys", "/sys/devices", "/sys/fs/cgroup", "/dev/urandom", "/dev/random",
)  # fmt: skip


def confine(job: Job, *, processes: bool) -> tuple[Layer, ...]:
    """Confines this process, which must be single-threaded, for good; what each layer came to.

    `processes`: the framework starts programs of its own.
    """
    readable, folders = _readable(job), (str(Path(job.folder).parent),)
    network = sandbox.leave_network()
    # Programs of a framework talk to each other, where there is no network but their own.
    tcp = processes and network.active and sandbox.raise_loopback()
    programs = readable if processes else ()
    layers = [
        network,
        sandbox.forbid_new_privileges(),
        sandbox.limit_resources(data_bytes=job.data_bytes, open_files=1024, file_bytes=job.file_bytes),
        sandbox.confine_files(readable, ("/dev/null",), folders=folders, programs=programs, tcp=tcp),
    ]
    if not processes:
        layers.append(sandbox.confine_to_building())
    return tuple(layers)


def _readable(job: Job) -> tuple[str, ...]:
    own = [path for path in sys.path if path and Path(path).exists()]
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    given = [path for path in (job.source, job.sample, job.options.weights) if path]
    given += [job.code_folder] if job.code_folder else []
    beside = [
        str(Path(path).parent)
        for path in given
        if job.detected.format in ("onnx", "paddle-pir", "paddle-legacy", "tfjs", "tfjs-layers")
    ]
    libraries = filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep))
    program = filter(None, (program_folder(), os.environ.get("JAVA_HOME", "")))
    java = (str(path) for path in Path("/etc").glob("java*"))
    return (*_SYSTEM, *own, *prefixes, *program, *java, *given, *beside, *libraries)
