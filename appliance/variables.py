"""Which INGLE_... variables mean something, and what is said of one that does not: a setting that is mistyped in the
environment would else be ignored in silence.

Read by node.py and the CLI. Other programs may set such variables, so none is an error.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping

from appliance.settings import SETTINGS

# Read by a node or a verb, and no settings of a node.
_READ_BESIDES = frozenset(
    {"INGLE_CACHE_DIR", "INGLE_CONFIG", "INGLE_MESH_KEY", "INGLE_NODE", "INGLE_KEY", "INGLE_CA", "INGLE_FINGERPRINT"}
)
# Set by the one file for itself; read by this project's tests and benchmarks.
_INTERNAL = frozenset(
    {
        "INGLE_ONE_FILE",
        "INGLE_ON_TRIAL",
        "INGLE_BENCH_CACHE",
        "INGLE_CONFORMANCE",
        "INGLE_CONVERSION_ROWS",
        "INGLE_TEST_BINARY",
        "INGLE_TEST_SYSTEMD_ROOT",
    }
)
_SETTABLE = frozenset(setting.variable for setting in SETTINGS) | _READ_BESIDES
KNOWN = _SETTABLE | _INTERNAL
_PREFIX = "INGLE_"
_NAME = re.compile(r"INGLE_[A-Za-z0-9_]{1,100}")
# What Kubernetes sets in every container beside a service that is called `ingle`.
_OF_A_SERVICE = re.compile(r"INGLE_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_.*)?)")
_MAX_TOLD = 8


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """A sentence for each variable that looks like a setting and is none, in the order of their names; of very many,
    the first and how many more."""
    names = sorted(_unknown(environ))
    told = [
        f"{name} is set, and there is no such setting: it changes nothing; the nearest is {_nearest(name)}"
        for name in names[:_MAX_TOLD]
    ]
    if len(names) > _MAX_TOLD:
        told.append(f"{len(names) - _MAX_TOLD} more variables that begin with {_PREFIX} are no settings")
    return told


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    in_kubernetes = "INGLE_SERVICE_HOST" in environ
    for name in environ:
        if _NAME.fullmatch(name) and name not in KNOWN and not (in_kubernetes and _OF_A_SERVICE.fullmatch(name)):
            yield name


def _nearest(name: str) -> str:
    endings = sorted(known.removeprefix(_PREFIX) for known in _SETTABLE)
    return _PREFIX + difflib.get_close_matches(name.removeprefix(_PREFIX).upper(), endings, n=1, cutoff=0.0)[0]
