"""Which version the next call of a spelling goes to, over a real catalogue and pools."""

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.elsewhere import Elsewhere
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.core.manifest import Manifest, StateDeclaration
from appliance.core.models import ModelVersion
from appliance.core.names import parse_name
from appliance.core.tensors import Signature
from appliance.core.traffic import Traffic
from appliance.gateway.routes import Routes
from appliance.observability.statistics import VersionCounters
from appliance.workers.pool import Pool
from appliance.workers.supervisor import Supervisor
from federation.peer import AWAITED_S
from tests.unit.box import Box

pytestmark = pytest.mark.usefixtures("driven_clock")

NAME = parse_name("acme/stream")


class Pools:
    """A pool for each version."""

    def __init__(self) -> None:
        self._box = Box(budget_mib=100)
        self._pools: dict[object, Pool] = {}

    def pool(self, model: ModelVersion) -> Pool:
        return self._pools.setdefault(model.key, self._box.model(str(model.version), 10))


def test_of_a_canary_share_each_sequence_counts_once_however_many_calls_it_has(tmp_path: Path) -> None:
    async def run() -> None:
        catalogue = Catalogue(tmp_path)
        manifest = Manifest(state=(StateDeclaration("s", "s2"),))
        for content in (b"\x08\x0aone", b"\x08\x0atwo"):
            incoming = catalogue.new_incoming()
            (incoming / "upload").write_bytes(content)
            staged, found = stage(incoming / "upload", incoming), Inspection(Signature((), ()), False, "")
            catalogue.publish(staged, found, name=NAME, version=None, manifest=manifest, keep_default=True)
        catalogue.set_traffic(NAME, Traffic(canary="1.1.0", canary_share=0.5))
        routes = Routes(catalogue, cast(Supervisor, Pools()), lambda _: VersionCounters())
        begun = []
        for _ in range(4):
            begun.append(routes.find("acme/stream", "", False).version)
            routes.find("acme/stream", "", False, goes_on=True)
        catalogue.close()
        assert sorted(begun) == ["1.0.0", "1.0.0", "1.1.0", "1.1.0"]

    asyncio.run(run())


def test_what_other_nodes_had_a_moment_ago_may_be_answered_there_soon(tmp_path: Path) -> None:
    async def run() -> None:
        catalogue = Catalogue(tmp_path)
        incoming = catalogue.new_incoming()
        (incoming / "upload").write_bytes(b"\x08\x0aone")
        staged, found = stage(incoming / "upload", incoming), Inspection(Signature((), ()), False, "")
        model, _ = catalogue.publish(staged, found, name=NAME, version=None, manifest=Manifest())
        routes = Routes(catalogue, cast(Supervisor, Pools()), lambda _: VersionCounters())
        assert routes.find("acme/stream", "", False).awaits_until_s == 0.0
        held = Elsewhere(versions=(model,), holders={model.version: ("b",)})
        catalogue.put_elsewhere({NAME: held})
        assert routes.find("acme/stream", "", False).awaits_until_s == 0.0
        catalogue.put_elsewhere({NAME: None})
        awaited_s = routes.find("acme/stream", "", False).awaits_until_s
        assert awaited_s == time.monotonic() + AWAITED_S
        catalogue.put_elsewhere({parse_name("acme/other"): held})
        assert routes.find("acme/stream", "", False).awaits_until_s == awaited_s
        catalogue.put_elsewhere({NAME: held})
        assert routes.find("acme/stream", "", False).awaits_until_s == 0.0
        catalogue.close()

    asyncio.run(run())
