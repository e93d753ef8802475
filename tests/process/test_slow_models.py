"""A model whose calls pile up on the one node that has it is loaded on another, while they go on."""

import json
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import requests
from onnx import parser

from appliance.client import Client
from tests.conftest import RunningNode

# Some tens of milliseconds a run: each turn is a product of two matrices.
SLOW = """<ir_version: 10, opset_import: ["" : 17]>
g (int64 turns, float[128,128] x) => (float[128,128] y) <bool go = {1}> { y = Loop (turns, go, x)
<body = b (int64 i, bool c, float[128,128] v) => (bool d, float[128,128] w)
{d = Identity(c) \n p = MatMul(v, v) \n w = Tanh(p)}>}"""


def test_what_is_slow_to_answer_is_copied_and_loaded_on_another_node(
    nodes: Callable[..., RunningNode], tmp_path: Path
) -> None:
    key = tmp_path / "mesh.key"
    key.write_text(secrets.token_hex(32))
    flags = ("--mesh", "127.0.0.1:0", "--mesh-key-file", str(key), "--federation-discover", "false")
    holder = nodes(*flags, "--name", "holder", "--routing-max-replicas", "1")
    mesh = json.loads((holder.data_dir.parent / "ready.json").read_text())["mesh"]
    entry = nodes(*flags, "--name", "entry", "--join", mesh)
    upload = parser.parse_model(SLOW).SerializeToString()
    deployed = requests.put(f"{holder.url}/v1/models/busy/slow", upload, headers=holder.headers, timeout=60)
    assert deployed.ok, deployed.text
    ran_on: set[str] = set()
    failed: list[Exception] = []
    ends_s = time.monotonic() + 60
    x = np.eye(128, dtype=np.float32)

    def call() -> None:
        with Client(entry.url, entry.admin_key) as client:
            while not failed and "entry" not in ran_on and time.monotonic() < ends_s:
                try:
                    answer = client.infer("busy/slow", {"turns": np.array(300, dtype=np.int64), "x": x})
                except Exception as error:
                    if "busy/slow" not in str(error) or ran_on:
                        failed.append(error)
                    time.sleep(0.05)  # the holder's catalogue is not known here yet
                else:
                    ran_on.add(answer.node)

    callers = [threading.Thread(target=call) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not failed
    assert ran_on == {"holder", "entry"}
    told = requests.get(f"{entry.url}/v1/models/busy/slow", headers=entry.headers, timeout=60).json()
    assert len(told["workers"]) >= 1
