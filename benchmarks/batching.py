"""What greedy batching brings: `python -m benchmarks.batching`.

An MLP of 1 MFLOP, 64 callers, V2 binary, one node. The same file is deployed twice: as it is, and with a manifest
whose batch limit is 1. Nothing is pinned.
"""

import io
import tempfile
import zipfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.http_load import http_load
from benchmarks.measured import Measured
from benchmarks.models import mlp
from benchmarks.processes import Node, deploy, node
from benchmarks.report import Section, verdict, write_section
from benchmarks.throughput import COLUMNS, SECONDS, compare, rows_of

_CONCURRENCY = 64
_GOAL = 2.0
_SINGLE = "mlp-one-by-one"


def _deploy_without_batching(model: Path, served: Node) -> None:
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as archive:
        archive.write(model, "model.onnx")
        archive.writestr("manifest.toml", "[limits]\nbatch = 1\n")
    deploy(served, _SINGLE, bundle.getvalue(), "application/zip")


def measure() -> Section:
    """Rounds of the model with batching and of the same model without."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = mlp.write(folder)
        batched, single = call_of(mlp, model), call_of(mlp, model, _SINGLE)
        with node([model], folder, {"INGLE_ROUTING_MAX_REPLICAS": "1"}) as served:
            _deploy_without_batching(model, served)

            def batching_off() -> Measured:
                request = single.binary_request(served.http)
                return http_load(served.http, request, single.check_binary, concurrency=_CONCURRENCY, seconds=SECONDS)

            def batching_on() -> Measured:
                request = batched.binary_request(served.http)
                return http_load(served.http, request, batched.check_binary, concurrency=_CONCURRENCY, seconds=SECONDS)

            turns, ratios = compare(
                {"batching off": batching_off, "batching on": batching_on}, {"batching on": "batching off"}
            )
    return Section(
        "batching",
        f"MLP of {mlp.flops / 1e6:.1f} MFLOP, {_CONCURRENCY} callers, V2 binary; ratio to the same model on the same "
        "node with a batch limit of 1.",
        COLUMNS,
        rows_of(turns, ratios),
        [verdict("gain by batching", ratios["batching on"].median, _GOAL)],
    )


if __name__ == "__main__":
    write_section(measure())
