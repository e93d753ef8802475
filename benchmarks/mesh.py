"""All benchmarks of the mesh, one after the other, each rewriting its section: `python -m benchmarks.mesh`.

They need root, for their nodes are on hosts of a LAN of network namespaces.
"""

import sys

from benchmarks.__main__ import run_all
from benchmarks.report import ORDER

if __name__ == "__main__":
    sys.exit(run_all([name for name in ORDER if name.startswith("mesh_")]))
