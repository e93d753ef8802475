"""What whoever deploys is told when the process that looks at the model ends."""

import asyncio
import socket
from collections import deque
from typing import cast

import pytest

from appliance.core.errors import IngleError, RefusedError, UnavailableError
from appliance.core.manifest import Manifest
from appliance.workers.child import Child
from appliance.workers.inspector import Inspector
from appliance.workers.processes import Processes
from appliance.workers.spec import WorkerSpec


class Ending:
    """Processes whose children end before they say anything."""

    def __init__(self, *, with_zygote: bool) -> None:
        self._with_zygote = with_zygote

    def next_number(self) -> int:
        return 1

    def fork_alone(self, spec: WorkerSpec, child: Child, log: "deque[str]") -> socket.socket:
        ours, theirs = socket.socketpair()
        theirs.close()
        child.blameless = self._with_zygote
        child.reaped(11)
        return ours


@pytest.mark.parametrize(("with_zygote", "error"), [(False, RefusedError), (True, UnavailableError)])
def test_a_model_is_refused_for_its_own_childs_death_alone(with_zygote: bool, error: type[IngleError]) -> None:
    inspector = Inspector(cast(Processes, Ending(with_zygote=with_zygote)), providers=(), data_bytes=0)
    with pytest.raises(error):
        asyncio.run(inspector.inspect("/nowhere", Manifest()))
