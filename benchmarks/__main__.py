"""All benchmarks one after the other, each rewriting its section of RESULTS.md: `python -m benchmarks`.

One that fails is reported at the end and does not keep the others from running.
"""

import importlib
import sys
import traceback
from collections.abc import Sequence

from benchmarks.report import APART, ORDER, write_section


def run_all(names: Sequence[str]) -> int:
    """Those of these names; the exit status, 1 where one failed."""
    failed = []
    for name in names:
        sys.stderr.write(f"running {name}\n")
        try:
            write_section(importlib.import_module(f"benchmarks.{name}").measure())
        except Exception:
            traceback.print_exc()
            failed.append(name)
    if failed:
        sys.stderr.write(f"these failed, and their sections were left as they were: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run_all([name for name in ORDER if name not in APART]))
