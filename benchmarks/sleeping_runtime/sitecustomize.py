"""Put first on PYTHONPATH, draws out each run of a node's models, by sleeping, to the seconds in run_s.json beside it.

So several boxes of unlike speeds fit two cores: what is measured is where calls go, not how quickly a core computes.
Everything else of the node is real, the model's own run too. Nothing else of the node knows.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

_BOUNDARY = "appliance.workers.runtime"


class _Sleeping:
    """A session whose runs take their time."""

    def __init__(self, real: Any, run_s: float) -> None:
        self._real = real
        self._run_s = run_s

    def run(self, *arguments: Any, **named: Any) -> Any:
        ends_s = time.monotonic() + self._run_s
        answer = self._real.run(*arguments, **named)
        time.sleep(max(0.0, ends_s - time.monotonic()))
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        opens = module.open_session
        run_s = float(json.loads(Path(__file__).with_name("run_s.json").read_text()))
        module.open_session = lambda *given, **named: _Sleeping(opens(*given, **named), run_s)  # type: ignore[attr-defined]


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the one module where it lies, and has it loaded by _Loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _BOUNDARY or path is None:
            return None
        file = Path(next(iter(path)), "runtime.py")
        return importlib.util.spec_from_file_location(name, file, loader=_Loader(name, str(file)))


sys.meta_path.insert(0, _Finder())
