"""Put first on PYTHONPATH, gives a node's processes the runtime of fake_runtime.py in place of the real boundary to
onnxruntime. Nothing else of the node knows."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

_BOUNDARY = "appliance.workers.runtime"


class _Finder:
    """Finds one module elsewhere than where it lies."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _BOUNDARY:
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name("fake_runtime.py"))


sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]
