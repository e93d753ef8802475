"""Opening a model in its worker: the cached optimised graph where one is offered and sound, else its own file; behind
its tokenizer, where it has one.

Runs in a worker process, after the fork.
"""

from collections.abc import Sequence
from pathlib import Path

from appliance.core.errors import IngleError, RefusedError
from appliance.workers.devices import Provider
from appliance.workers.session import Session
from appliance.workers.spec import CachedGraph, WorkerSpec
from appliance.workers.text_session import Model, for_callers


def open_model(spec: WorkerSpec, providers: Sequence[str | Provider]) -> tuple[Model, bool, str]:
    """The session, whether it came of the cached graph, and what was wrong with a graph that was offered and not used.

    Raises RefusedError or OutOfMemoryError where the model itself does not open.
    """
    session, from_graph, fault = _open_session(spec, providers)
    return for_callers(session, spec.manifest, Path(spec.folder), together=spec.max_batch), from_graph, fault


def _open_session(spec: WorkerSpec, providers: Sequence[str | Provider]) -> tuple[Session, bool, str]:
    fault = ""
    if spec.graph is not None:
        try:
            return open_graph(spec.graph, spec), True, ""
        except (IngleError, OSError) as error:
            fault = str(error)
    return Session(Path(spec.folder, "model.onnx"), threads=spec.threads, providers=providers), False, fault


def open_graph(graph: CachedGraph, spec: WorkerSpec) -> Session:
    """The cached graph alone. Raises RefusedError or OSError where it is not as it was written: a file cut short would
    otherwise be mapped, and end the process when it is read."""
    folder = Path(graph.folder)
    for name, size_bytes in graph.sizes.items():
        found_bytes = (folder / name).stat().st_size
        if found_bytes != size_bytes:
            raise RefusedError(f"{name} has {found_bytes} bytes and was written with {size_bytes}")
    return Session(folder / "model.onnx", threads=spec.threads, providers=spec.providers, optimised=True)
