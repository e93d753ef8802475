"""The process that reads and writes elements: what it makes of good and bad content, and what its death costs."""

import asyncio
import os
import signal
import socket
from collections import deque

import numpy as np
import pytest

from appliance.core.errors import BadInputError
from appliance.core.frames import AnswerForm, Encoding, Invoke, TensorHead
from appliance.core.tensors import Signature, TensorSpec
from appliance.workers.child import Child
from appliance.workers.processes import Processes
from appliance.workers.spec import WorkerSpec
from appliance.workers.translator import Translator

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("y", "FP32", (-1, 2)),))
RAW = np.array([[1, 2]], np.float32).tobytes()


class Seen(Processes):
    """Remembers what it forked."""

    def __init__(self) -> None:
        super().__init__()
        self.forked: list[Child] = []

    def fork_alone(self, spec: WorkerSpec, child: Child, log: deque[str]) -> socket.socket | None:
        self.forked.append(child)
        return super().fork_alone(spec, child, log)


def plain(content: bytes) -> tuple[Invoke, list[bytes]]:
    head = TensorHead("", "", [], Encoding.CONTENT, len(content))
    return Invoke(0, AnswerForm.PLAIN, [head], content_type="application/json"), [content]


async def read(translator: Translator) -> bytes:
    return (await translator.read(*plain(b"[1, 2]"), SIGNATURE))[1]


def test_content_is_read_and_outputs_are_written_and_a_process_that_dies_is_replaced() -> None:
    async def go() -> None:
        processes = Seen()
        await processes.start()
        translator = Translator(processes, data_bytes=0)
        try:
            assert await read(translator) == RAW
            with pytest.raises(BadInputError):
                await translator.read(*plain(b'["one", "two"]'), SIGNATURE)
            outputs = [TensorHead("y", "FP32", [1, 2], Encoding.RAW, len(RAW))]
            answer, text = await translator.write(Invoke(0, AnswerForm.V2_JSON, outputs), [RAW], SIGNATURE)
            assert text == b'[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]'
            assert answer.text_size == len(text)
            assert len(processes.forked) == 1
            os.kill(processes.forked[0].pid, signal.SIGKILL)
            await processes.forked[0].ended.wait()
            assert await read(translator) == RAW
            translator.stop()
            await processes.forked[1].ended.wait()
            assert [await asyncio.gather(*(read(translator) for _ in range(20)))] == [[RAW] * 20]
            assert len(processes.forked) == 3
        finally:
            translator.stop()
            await processes.stop()

    asyncio.run(go())
