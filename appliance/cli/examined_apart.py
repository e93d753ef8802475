"""What `ingle doctor` examines in a process of its own, since it may crash, take its time, or not be taken off again.

Run as a role of this program; prints one line of JSON.
"""

import json
import os
import sys

os.environ.update(ORT_DISABLE_TELEMETRY="1", OPENBLAS_NUM_THREADS="1")  # before onnxruntime is imported


def _runtime() -> object:
    """onnxruntime's version, the providers that it was built with, and what those of a GPU lack on this box."""
    import onnxruntime

    from appliance.workers.runtime import load_libraries

    return [onnxruntime.__version__, onnxruntime.get_available_providers(), load_libraries()]


def _layers() -> object:
    """The sandbox's layers, each as it was found to hold."""
    from appliance.sandbox.confine import forbid_new_privileges, leave_network
    from appliance.workers.confinement import confine_zygote

    return [leave_network(), forbid_new_privileges(), *confine_zygote()]


def main(what: str) -> None:
    """`what`: runtime or layers."""
    print(json.dumps({"runtime": _runtime, "layers": _layers}[what]()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
