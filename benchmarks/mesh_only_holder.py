"""What callers notice of the only node that has a model: `python -m benchmarks.mesh_only_holder`.

100 calls a second in open loop through a node that has no copy. In the midst of a run the one that has it stands still
for 1.5 s, is ended and started again as an update does it, is killed and started again, or loses a fifth of its packets
each way to the end of the run.
"""

import time

from benchmarks.mesh_faults import LOSSY
from benchmarks.mesh_load import evenly
from benchmarks.meshed import Meshed, answers_everywhere, milliseconds, on_a_lan, place, warm
from benchmarks.report import Section, verdict, write_section
from tests.mesh.meshes import WITHOUT_MEMORY, MeshNode

_RATE_PER_S = 100.0
_SECONDS = 12.0
_FAULT_AT = 0.25  # of the run
_FROZEN_S = 1.5
_FAULTS = ("none", f"freeze of {_FROZEN_S} s", "restart", "kill -9, restart", LOSSY)
_COLUMNS = ("", "lost", "p50, ms", "p99, ms", "longest, ms")


def _strike(fault: str, meshed: Meshed, holder: MeshNode) -> None:
    """And what ends it, where that is not the end of the run."""
    if fault.startswith("freeze"):
        holder.freeze()
        time.sleep(_FROZEN_S)
        holder.thaw()
    elif fault == "restart":
        holder.stop()
        holder.restart()
    elif fault == "kill -9, restart":
        holder.kill()
        holder.restart()
    elif fault == LOSSY:
        meshed.lan.around(holder.host, loss=0.2)


def measure(seconds: float = _SECONDS) -> Section:
    """One mesh of two, with a run for each fault."""
    rows, lost = [], 0
    with on_a_lan() as meshed:
        (entry,) = meshed.mesh.start("entry", flags=("--open", *WITHOUT_MEMORY))
        (holder,) = meshed.mesh.start("holder", flags=("--open",))
        meshed.mesh.wait_all_see_all()
        upload, call = meshed.tiny_call()
        place(call.name, upload, [holder])
        answers_everywhere(call.name, [entry, holder])
        for fault in _FAULTS:
            warm(call, entry, [holder])
            with meshed.load([entry.url], call, evenly(_RATE_PER_S, seconds)) as load:
                load.wait_s(seconds * _FAULT_AT)
                _strike(fault, meshed, holder)
                report = load.report()
            meshed.lan.heal()
            meshed.mesh.wait_all_see_all()
            lost += len(report.lost)
            rows.append(
                (fault, str(len(report.lost)), *(milliseconds(report.centile_s(centile)) for centile in (50, 99, 100)))
            )
    return Section(
        "mesh_only_holder",
        f"Tiny model on one node alone, {_RATE_PER_S:.0f} calls a second in open loop through another for "
        f"{seconds:.0f} s a run; the fault after {_FAULT_AT:.0%} of the run. A time counts from when the call was due.",
        _COLUMNS,
        rows,
        [verdict("calls lost", lost, 0, at_most=True)],
    )


if __name__ == "__main__":
    write_section(measure())
