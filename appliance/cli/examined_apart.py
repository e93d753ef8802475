"""What `ingle doctor` examines in a process of its own, since it may crash, take its time, or not be taken off again.

Run as a role of this program; prints one line of JSON.
"""

import json
import os
import sys
from collections.abc import Callable

os.environ.update(ORT_DISABLE_TELEMETRY="1", OPENBLAS_NUM_THREADS="1")  # before onnxruntime is imported


def _runtime() -> object:
    """onnxruntime's version, the providers that it was built with, and what those of a GPU lack on this box."""
    import onnxruntime

    from appliance.workers.runtime import listed_providers, load_libraries

    return [onnxruntime.__version__, listed_providers(), load_libraries()]


def _layers() -> object:
    """The sandbox's layers, each as it was found to hold."""
    from appliance.sandbox.confine import forbid_new_privileges, leave_network
    from appliance.workers.confinement import confine_zygote

    return [leave_network(), forbid_new_privileges(), *confine_zygote()]


def _gpu(device: str) -> object:
    """What a session gets of this device in a process confined as the node's own for it is: the providers, why it is
    no GPU, and what is free of its memory (-1: not known)."""
    from appliance.core.manifest import Manifest
    from appliance.workers.confinement import confine_child, profile
    from appliance.workers.device_trial import try_device
    from appliance.workers.devices import parse_device, providers_for
    from appliance.workers.runtime import listed_providers
    from appliance.workers.spec import WorkerSpec

    wanted = parse_device(device)
    _layers()
    spec = WorkerSpec(
        number=0,
        role="device",
        folder="",
        manifest=Manifest(),
        threads=1,
        max_batch=1,
        providers=providers_for(wanted, listed_providers()),
        data_bytes=0,
        device_number=wanted.number,
    )
    confine_child(profile(spec), data_bytes=0, file_bytes=0)
    tried = try_device(spec)
    return [tried.providers, tried.error, tried.free_bytes]


def main(what: str, *about: str) -> None:
    """`what`: runtime, layers or gpu, which wants a device as `--device` says it."""
    examined: dict[str, Callable[..., object]] = {"runtime": _runtime, "layers": _layers, "gpu": _gpu}
    print(json.dumps(examined[what](*about)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
