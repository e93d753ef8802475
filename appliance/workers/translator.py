"""The gateway's end of the process that reads and writes elements (translation.py): started with the first call that
needs it, started anew after its death, ended when it is idle.

Runs in the gateway's event loop. Knows neither what is called nor where.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial

from appliance.core.errors import BusyError, UnavailableError, WorkerFailedError, error_from_code
from appliance.core.frames import Answer, Failure, Held, Invoke, Kind, Loaded, Translate, frame_start
from appliance.core.manifest import Manifest
from appliance.core.requests import Buffer
from appliance.core.tensors import Signature
from appliance.workers.child import LinkedChild
from appliance.workers.link import Link
from appliance.workers.processes import Processes
from appliance.workers.spec import WorkerSpec

IDLE_S = 60.0
TURN_S = 30.0  # one that takes longer is ended, and all that it was given with it
MAX_WAITING = 256

Translated = tuple[Answer, bytes]


class _Process(LinkedChild):
    """One process, with what it owes."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.owed: dict[int, asyncio.Future[Translated]] = {}
        self.log: deque[str] = deque(maxlen=20)
        self._unsent: list[bytes] = []

    def attach(self, link: Link) -> None:
        self.link = link
        unsent, self._unsent = self._unsent, []
        if unsent:
            link.send(unsent, 1)

    def send(self, parts: list[bytes]) -> None:
        if self.link is None:
            self._unsent += parts
        else:
            self.link.send(parts, 1)

    def on_frame(self, head: Answer | Failure | Loaded | Held, body: bytes) -> None:
        if not isinstance(head, Answer | Failure):
            return
        future = self.owed.pop(head.call, None)
        if future is None or future.done():
            return
        if isinstance(head, Answer):
            future.set_result((head, body))
        else:
            future.set_exception(error_from_code(head.code, head.sentence))

    def _when_lost(self) -> None:
        last = f"; its last words: {self.log[-1]}" if self.log else ""
        for future in self.owed.values():
            if not future.done():
                future.set_exception(
                    WorkerFailedError(f"the process that reads and writes elements died: {self.end_reason}{last}")
                )
        self.owed.clear()


class Translator:
    """read() and write(); stop() at the end."""

    def __init__(self, processes: Processes, *, data_bytes: int) -> None:
        """`data_bytes`: the most private memory of the process."""
        self._processes = processes
        self._data_bytes = data_bytes
        self._process: _Process | None = None
        self._number = 0
        self._idle: asyncio.TimerHandle | None = None
        self._connecting: set[asyncio.Task[object]] = set()

    async def read(self, invoke: Invoke, parts: Sequence[Buffer], signature: Signature) -> Translated:
        """A call's inputs as RAW tensors: the answer's, one after another in the body. Raises IngleError."""
        return await self._ask(Translate(invoke, signature, False), parts)

    async def write(self, invoke: Invoke, parts: Sequence[Buffer], signature: Signature) -> Translated:
        """What a worker would answer to this call whose outputs these are: RAW, as the call's `tensors`. Raises
        IngleError."""
        return await self._ask(Translate(invoke, signature, True), parts)

    async def _ask(self, asked: Translate, parts: Sequence[Buffer]) -> Translated:
        process = self._living()
        if len(process.owed) >= MAX_WAITING:
            raise BusyError(f"{MAX_WAITING} calls wait to have their elements read or written", retry_after_s=1.0)
        self._number += 1
        asked.invoke.call = number = self._number  # the process' own count of what it was given
        future: asyncio.Future[Translated] = asyncio.get_running_loop().create_future()
        process.owed[number] = future
        content = [part if isinstance(part, bytes) else bytes(part) for part in parts]
        process.send([frame_start(Kind.TRANSLATE, asked, sum(map(len, content))), *content])
        try:
            async with asyncio.timeout(TURN_S):
                return await future
        except TimeoutError:
            process.kill(f"it took longer than {TURN_S:.0f} s")
            raise WorkerFailedError(
                f"the elements of the call were not read or written within {TURN_S:.0f} s"
            ) from None
        finally:
            process.owed.pop(number, None)
            self._rest(process)

    def _living(self) -> _Process:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process = self._process
        if process is not None and not process.lost and not process.ended.is_set() and not process.end_reason:
            return process
        self._process = process = self._started()
        return process

    def _started(self) -> _Process:
        process = _Process(self._processes.next_number())
        spec = WorkerSpec(
            number=process.number,
            role="translate",
            folder="",
            manifest=Manifest(),
            threads=1,
            max_batch=1,
            providers=(),
            data_bytes=self._data_bytes,
        )
        try:
            sock = self._processes.fork_alone(spec, process, process.log)
        except OSError as error:
            raise UnavailableError(f"no process could be started to read the call: {error.strerror}") from None
        if sock is None:
            raise UnavailableError("no process could be started to read the call: try again in a moment")
        link = partial(Link, process.attach, process.on_frame, process.on_socket_closed)
        task: asyncio.Task[object] = asyncio.ensure_future(
            asyncio.get_running_loop().create_unix_connection(link, sock=sock)
        )
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return process

    def _rest(self, process: _Process) -> None:
        if process is self._process and not process.owed and self._idle is None:
            self._idle = asyncio.get_running_loop().call_later(IDLE_S, self.stop)

    def stop(self) -> None:
        """Ends the process, if there is one; the next call starts another."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        process, self._process = self._process, None
        if process is not None:
            process.kill("it was not needed any more")
