"""What callers notice of a replica that is lost: `python -m benchmarks.mesh_faults`.

200 calls a second in open loop through a node that lives and has no copy itself, and three replicas on nodes of their
own. In the midst of a run something befalls the replica that answers most: kill -9, a freeze of all its processes, its
cable pulled, its answers lost one way, a fifth of its packets lost each way. Each with hedging and without. Then the
entry node is killed under callers that know several. Each run is held against the run before it without a fault.
"""

from benchmarks.calls import Call
from benchmarks.mesh_load import LoadReport, evenly
from benchmarks.meshed import Meshed, answers_everywhere, milliseconds, on_a_lan, place, settled, warm
from benchmarks.report import Section, verdict, write_section
from tests.mesh.meshes import WITHOUT_MEMORY, MeshNode, answered

_RATE_PER_S = 200.0
_SECONDS = 20.0
_FAULT_AT = 0.3  # of the run
# By when a bad link must have been noticed: the mesh is silent no longer than this before a node is given up.
_NOTICED_S = 3.0
_GOALS_S = {"hedged": 0.06, "not hedged": 1.0}
_COLUMNS = ("", "lost", "p50, ms", "p99, ms", "p99.9, ms", "longest, ms", "p99.9 over the run without, ms")


FAULTS = ("kill -9", "freeze", "partition", "answers lost one way", "calls lost one way")
LOSSY = "20% packet loss"


def _strike(fault: str, meshed: Meshed, victim: MeshNode, entry: MeshNode) -> None:
    match fault:
        case "kill -9":
            victim.kill()
        case "freeze":
            victim.freeze()
        case "partition":
            meshed.lan.cut_off(victim.host)
        case "answers lost one way":
            meshed.lan.link(victim.host, entry.host, down=True)
        case "calls lost one way":
            meshed.lan.link(entry.host, victim.host, down=True)
        case _:
            meshed.lan.around(victim.host, loss=0.2)


def _mend(meshed: Meshed, victim: MeshNode) -> None:
    """Whatever it was."""
    if victim.is_running:
        victim.thaw()
    else:
        victim.restart()
    meshed.lan.heal()
    meshed.mesh.wait_all_see_all()


def _run(meshed: Meshed, entry: MeshNode, call: Call, seconds: float) -> LoadReport:
    with meshed.load([entry.url], call, evenly(_RATE_PER_S, seconds)) as load:
        return settled(load.report(), "without a fault")


def _run_with(
    meshed: Meshed, entry: MeshNode, replicas: list[MeshNode], call: Call, fault: str, seconds: float
) -> LoadReport:
    """Strikes the replica that answered most until then."""
    before = answered(call.name, replicas)
    with meshed.load([entry.url], call, evenly(_RATE_PER_S, seconds)) as load:
        load.wait_s(seconds * _FAULT_AT)
        [(name, _)] = (answered(call.name, replicas) - before).most_common(1)
        victim = meshed.mesh.nodes[name]
        _strike(fault, meshed, victim, entry)
        report = load.report()
    _mend(meshed, victim)
    return report


def _run_without_entry(
    meshed: Meshed, entry: MeshNode, others: list[MeshNode], call: Call, seconds: float
) -> LoadReport:
    """Kills the first of the nodes that the callers know."""
    urls = [entry.url, *(node.url for node in others)]
    with meshed.load(urls, call, evenly(_RATE_PER_S, seconds)) as load:
        load.wait_s(seconds * _FAULT_AT)
        entry.kill()
        return load.report()


def _row(what: str, report: LoadReport, without: LoadReport | None = None) -> tuple[str, ...]:
    over = milliseconds(report.centile_s(99.9) - without.centile_s(99.9)) if without else ""
    return (
        what,
        str(len(report.lost)),
        *(milliseconds(report.centile_s(centile)) for centile in (50, 99, 99.9, 100)),
        over,
    )


def _matrix(word: str, flags: tuple[str, ...], seconds: float) -> tuple[list[tuple[str, ...]], list[str]]:
    rows, verdicts = [], []
    with on_a_lan() as meshed:
        (entry,) = meshed.mesh.start("entry", flags=("--open", *WITHOUT_MEMORY, *flags))
        replicas = meshed.mesh.start("r1", "r2", "r3", flags=("--open", *flags))
        meshed.mesh.wait_all_see_all()
        upload, call = meshed.tiny_call()
        place(call.name, upload, replicas)
        answers_everywhere(call.name, [entry, *replicas])
        lost = 0
        worst_s = 0.0
        _run(meshed, entry, call, min(2.0, seconds))
        for fault in (*FAULTS, LOSSY):
            warm(call, entry, replicas)
            without = _run(meshed, entry, call, seconds)
            report = _run_with(meshed, entry, replicas, call, fault, seconds)
            rows.append(_row(f"{word}: none", without))
            rows.append(_row(f"{word}: {fault}", report, without))
            if fault == LOSSY:
                after_s = seconds * _FAULT_AT + min(_NOTICED_S, seconds / 4)
                ratio = report.centile_s(99, after_s=after_s) / without.centile_s(99)
                verdicts.append(verdict(f"{word}: lost at 20% packet loss", len(report.lost), 0, at_most=True))
                verdicts.append(verdict(f"{word}: p99 at 20% loss, after detection, ratio", ratio, 2.0, at_most=True))
            else:
                lost += len(report.lost)
                worst_s = max(worst_s, report.centile_s(99.9) - without.centile_s(99.9))
        verdicts.insert(0, verdict(f"{word}: calls lost with one replica", lost, 0, at_most=True))
        goal_s = _GOALS_S[word]
        what = f"{word}: p99.9 over the run without, ms, the worst fault"
        verdicts.insert(1, verdict(what, worst_s * 1e3, goal_s * 1e3, at_most=True))
        if word == "hedged":
            report = _run_without_entry(meshed, entry, replicas, call, seconds)
            rows.append(_row("hedged: the entry node killed, several known", report))
            verdicts.append(verdict("calls lost with the entry node", len(report.lost), 0, at_most=True))
    return rows, verdicts


def measure(seconds: float = _SECONDS) -> Section:
    """A mesh with hedging and one without, each with a run for each fault."""
    rows, verdicts = _matrix("hedged", (), seconds)
    without_rows, without_verdicts = _matrix("not hedged", ("--federation-hedge-share", "0"), seconds)
    return Section(
        "mesh_faults",
        f"Tiny model, {_RATE_PER_S:.0f} calls a second in open loop for {seconds:.0f} s a run, three replicas; the "
        f"fault after {_FAULT_AT:.0%} of the run. A call's time counts from when it was due.",
        _COLUMNS,
        rows + without_rows,
        verdicts + without_verdicts,
    )


if __name__ == "__main__":
    write_section(measure())
