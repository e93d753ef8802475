"""Has a model looked at in a confined child, bounded in time, and takes the child's death for an answer.

Runs in the gateway's event loop; what is looked at, and how, is inspection.py's, in the child.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable

import msgspec

from appliance.catalogue.inspection import Inspection
from appliance.core.errors import RefusedError, UnavailableError
from appliance.core.manifest import Manifest
from appliance.workers.child import Child
from appliance.workers.processes import Processes
from appliance.workers.spec import WorkerSpec
from appliance.workers.verdict import Verdict

TIMEOUT_S = 120.0
_MAX_VERDICT_BYTES = 16 * 1024 * 1024


class Inspector:
    def __init__(self, processes: Processes, *, providers: tuple[str, ...], data_bytes: int) -> None:
        self._processes = processes
        self._providers = providers
        self._data_bytes = data_bytes

    def _fork(self, spec: WorkerSpec, child: Child, log: "deque[str]") -> socket.socket:
        reason = "the process that starts others is not there"
        try:
            sock = self._processes.fork_alone(spec, child, log)
        except OSError as error:
            sock, reason = None, str(error.strerror)
        if sock is None:
            raise UnavailableError(
                f"no process could be started to look at the model ({reason}): try again in a moment"
            )
        return sock

    async def inspect(
        self, folder: str, manifest: Manifest, on_step: Callable[[str], None] | None = None
    ) -> Inspection:
        """What the model takes and gives, and whether calls may share a run. `on_step` hears each step as it begins.

        Raises RefusedError with the reason: the file's faults, the child's death, the time it took; UnavailableError
        where no child could look at it, or it was ended with the zygote.
        """
        child = Child(self._processes.next_number())
        log: deque[str] = deque(maxlen=20)
        spec = WorkerSpec(
            number=child.number,
            role="inspect",
            folder=folder,
            manifest=manifest,
            threads=1,
            max_batch=1,
            providers=self._providers,
            data_bytes=manifest.limits.memory_bytes or self._data_bytes,
        )
        sock = self._fork(spec, child, log)
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=_MAX_VERDICT_BYTES)
        step = "starting"
        try:
            async with asyncio.timeout(TIMEOUT_S):
                while line := await reader.readline():
                    verdict = msgspec.json.decode(line, type=Verdict)
                    if verdict.refusal:
                        raise RefusedError(verdict.refusal)
                    if verdict.inspection:
                        return verdict.inspection
                    step = verdict.step
                    if on_step:
                        on_step(step)
                await child.ended.wait()
        except TimeoutError:
            raise RefusedError(
                f"the model was given up after {TIMEOUT_S:.0f} s while {step}: a model that serves must open and run "
                "a sample within that time"
            ) from None
        except (ValueError, OSError) as error:  # what a hostile model made of its child says nothing sensible
            raise RefusedError(f"the process that looked at the model failed while {step}: {error}") from None
        finally:
            child.kill()
            writer.close()
        if child.blameless:
            raise UnavailableError(f"the model was not looked at, since {child.end_reason}: try again in a moment")
        last = f"; its last words: {log[-1]}" if log else ""
        raise RefusedError(f"the process that looked at the model died while {step}: {child.end_reason}{last}")
