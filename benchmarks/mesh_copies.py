"""A model of 100 MB to four nodes over wires of 100 Mbit/s: `python -m benchmarks.mesh_copies`.

Every node's own wire carries 100 Mbit/s in each direction. The model is deployed on one node, and then five copies are
wished; the time from that wish until the last of the other four has it, over the wire time of one copy.
Meanwhile the tiny model is called through one of the four, which has no copy of it and no memory for one.
"""

import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.measured import LoadError
from benchmarks.mesh_load import evenly
from benchmarks.meshed import MBIT_PER_S, answers_everywhere, copies_of, milliseconds, on_a_lan, place
from benchmarks.report import Section, verdict, write_section
from tests.mesh.meshes import WITHOUT_MEMORY, until

_NODES = 5
_SIZE_BYTES = 100_000_000
_WIRE_BYTES_PER_S = 100 * MBIT_PER_S
_RATE_PER_S = 50.0
_QUIET_S = 20.0
_PATIENCE_TIMES = 10  # one copy's wire time
_NAME = "heavy"


def heavy_model(size_bytes: int) -> bytes:
    """A model with so many bytes of weights that do not compress, and next to nothing to run."""
    weights = np.random.default_rng(5).standard_normal(size_bytes // 4).astype(np.float32)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])
    first = numpy_helper.from_array(np.array([0], np.int64), "first")
    nodes = [helper.make_node("Gather", ["w", "first"], ["one"]), helper.make_node("Add", ["x", "one"], ["y"])]
    graph = helper.make_graph(nodes, _NAME, [x], [y], [numpy_helper.from_array(weights, "w"), first])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = onnx.ModelProto.SerializeToString(model)
    return content


def measure(count: int = _NODES, size_bytes: int = _SIZE_BYTES, quiet_s: float = _QUIET_S) -> Section:
    """Once."""
    wire_s = size_bytes / _WIRE_BYTES_PER_S
    with on_a_lan() as meshed:
        flags = [("--open",), *[("--open", *WITHOUT_MEMORY)] * (count - 1)]
        hosts = [meshed.lan.host(f"n{number}") for number in range(count)]
        nodes = [meshed.mesh.make(host.name, host, flags=own) for host, own in zip(hosts, flags, strict=True)]
        for node in nodes:
            meshed.lan.rate(node.host, _WIRE_BYTES_PER_S)
            node.begin()
        for node in nodes:
            node.wait_ready()
        source, *others = nodes
        meshed.mesh.wait_all_see_all()
        upload, call = meshed.tiny_call()
        place(call.name, upload, [source])
        answers_everywhere(call.name, nodes)
        entry = others[0]
        heavy = heavy_model(size_bytes)
        source.deploy(_NAME, heavy)
        with meshed.load([entry.url], call, evenly(_RATE_PER_S, quiet_s)) as load:
            quiet = load.report()
        patience_s = wire_s * _PATIENCE_TIMES
        with meshed.load([entry.url], call, evenly(_RATE_PER_S, patience_s)) as load:
            source.deploy(_NAME, heavy, f"?replicas={count}")
            began_s = time.monotonic()
            until(lambda: len(copies_of(_NAME, source)) == count, "every node has its copy", patience_s)
            took_s = time.monotonic() - began_s
            ended_s = time.monotonic() - load.began_s
            report = load.finish()
        busy_s = ended_s - took_s
    ratio = took_s / wire_s
    p99s = quiet.centile_s(99), report.centile_s(99, after_s=busy_s, before_s=ended_s)
    if took_s < wire_s:
        raise LoadError(f"the copies were there after {took_s:.1f} s, sooner than the wire carries one")
    if report.lost:
        raise LoadError(f"{len(report.lost)} small calls were lost: {report.lost[0].fault}")
    return Section(
        "mesh_copies",
        f"{size_bytes / 1e6:.0f} MB from one node to {count - 1} others, each host's wire "
        f"{_WIRE_BYTES_PER_S / MBIT_PER_S:.0f} Mbit/s each way: {wire_s:.1f} s for one copy. "
        f"Small calls: {_RATE_PER_S:.0f} a second in open loop.",
        ("", "all copies there after, s", "small calls: p99 before, ms", "p99 meanwhile, ms"),
        [(f"{count} nodes", f"{took_s:.1f}", *map(milliseconds, p99s))],
        [
            verdict("all copies over one copy's wire time", ratio, 2.0, at_most=True),
            verdict("small calls' p99 meanwhile over before", p99s[1] / p99s[0], 2.0, at_most=True),
        ],
    )


if __name__ == "__main__":
    write_section(measure())
