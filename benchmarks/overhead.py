"""What a call costs over the model itself: `python -m benchmarks.overhead`.

One caller, one row of the tiny model over V2 JSON. From the p50 as the caller sees it a bare `session.run`'s p50 is
taken away; what is left for the node is divided by what is left for a bare aiohttp server that calls the session
inline. No process is pinned: server and caller take the cores that the scheduler gives them, on both sides. Binary and
gRPC are shown beside it.
"""

import tempfile
from pathlib import Path

from benchmarks.calls import call_of
from benchmarks.grpc_load import grpc_load
from benchmarks.http_load import http_load
from benchmarks.measured import Measured, Ratio, interleave, median_of
from benchmarks.models import tiny
from benchmarks.processes import bare_server, bare_session, node
from benchmarks.report import Section, microseconds, verdict, write_section

_ROUNDS = 9
_SECONDS = 1.5
_GOAL = 2.0


def measure() -> Section:
    """Rounds of bare session, bare server and node in turn, over three wires."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny.write(folder)
        call = call_of(tiny, model)
        message = call.grpc_message()
        with (
            node([model], folder) as served,
            bare_server("bare_http", model, folder) as bare_http,
            bare_server("bare_grpc", model, folder) as bare_grpc,
        ):

            def session() -> Measured:
                return Measured(**bare_session(model, _SECONDS / 3))

            def by_json(address: str) -> Measured:
                return http_load(address, call.json_request(address), call.check_json, concurrency=1, seconds=_SECONDS)

            def by_binary(address: str) -> Measured:
                return http_load(
                    address, call.binary_request(address), call.check_binary, concurrency=1, seconds=_SECONDS
                )

            def by_grpc(address: str) -> Measured:
                return grpc_load(address, message, call.check_grpc, concurrency=1, seconds=_SECONDS)

            turns = interleave(
                {
                    "session": session,
                    "bare JSON": lambda: by_json(bare_http),
                    "node JSON": lambda: by_json(served.http),
                    "bare binary": lambda: by_binary(bare_http),
                    "node binary": lambda: by_binary(served.http),
                    "bare gRPC": lambda: by_grpc(bare_grpc),
                    "node gRPC": lambda: by_grpc(served.grpc),
                },
                _ROUNDS,
            )

    def over(contestant: str) -> list[float]:
        return [turn.p50_s - bare.p50_s for turn, bare in zip(turns[contestant], turns["session"], strict=True)]

    rows = [("`session.run`", microseconds(median_of(turns["session"], lambda turn: turn.p50_s)), "", "", "")]
    ratios = {}
    for wire in ("JSON", "binary", "gRPC"):
        ratios[wire] = Ratio.of(over(f"node {wire}"), over(f"bare {wire}"))
        for side in ("bare", "node"):
            own = turns[f"{side} {wire}"]
            p50_s, p99_s = median_of(own, lambda turn: turn.p50_s), median_of(own, lambda turn: turn.p99_s)
            over_s = sorted(over(f"{side} {wire}"))[_ROUNDS // 2]
            ratio = str(ratios[wire]) if side == "node" else ""
            rows.append((f"{side}, {wire}", microseconds(p50_s), microseconds(p99_s), microseconds(over_s), ratio))
    return Section(
        "overhead",
        "Tiny model, one caller. What a call costs its caller above a bare `session.run`, and the node's cost over the "
        "bare server's.",
        ("", "p50, µs", "p99, µs", "p50 over `session.run`, µs", "ratio to the bare server's"),
        rows,
        [verdict("overhead over V2 JSON", ratios["JSON"].median, _GOAL, at_most=True)],
    )


if __name__ == "__main__":
    write_section(measure())
