"""Loads that no call waits for: on this node or a peer, with a fetch before where the version does not lie there."""

import asyncio
from pathlib import Path

import pytest

from appliance.core.errors import UnavailableError
from appliance.core.models import ModelVersion
from appliance.gateway.background_loads import BackgroundLoads
from appliance.routing.copying import Place
from federation.messages import Order, model_key
from tests.unit.copying_in_memory import NAME, Lan

OWN, OTHER = "a" * 32, "b" * 32


class Heard:
    """What was done, in order."""

    def __init__(self) -> None:
        self.acts: list[tuple[str, ...]] = []
        self.refuses = False

    async def fetch(self, model: ModelVersion) -> ModelVersion:
        self.acts.append(("fetch", str(model)))
        return model

    async def warm(self, model: ModelVersion) -> None:
        self.acts.append(("warm", str(model)))

    async def order(self, node_id: str, order: Order, _timeout_s: float) -> None:
        self.acts.append(("order", node_id, order.act, order.why, order.digest))
        if self.refuses:
            raise UnavailableError("there is no link to that node now")

    def ended(self, key: str, node_id: str) -> None:
        self.acts.append(("ended", node_id))

    def failed(self, _key: str, node_id: str) -> None:
        self.acts.append(("failed", node_id))


async def _loaded(folder: Path, place: Place, *, elsewhere: bool = False, refuses: bool = False) -> Heard:
    lan = Lan(folder, "ab")
    here, there = lan["a"], lan["b"]
    here.start()
    there.start()
    model = (there if elsewhere else here).deploy(b"model")
    while not here.catalogue.has_model(NAME):
        await asyncio.sleep(0.01)
    heard = Heard()
    heard.refuses = refuses
    loads = BackgroundLoads(
        here.catalogue,
        node_id=OWN,
        fetch=heard.fetch,
        warm=heard.warm,
        order=heard.order,
        ended=heard.ended,
        failed=heard.failed,
    )
    loads.begin(model_key(str(model.name), str(model.version), model.digest), place)
    await asyncio.gather(*loads._tasks)
    here.stop()
    there.stop()
    await asyncio.sleep(0)
    heard.acts = [tuple(word.replace(model.digest, "digest") for word in act) for act in heard.acts]
    return heard


@pytest.mark.parametrize(
    ("place", "elsewhere", "acts"),
    [
        (Place(OWN, 0.1, True), False, [("warm", "acme/digits:1.0.0"), ("ended", OWN)]),
        (
            Place(OWN, 0.1, False),
            True,
            [("fetch", "acme/digits:1.0.0"), ("warm", "acme/digits:1.0.0"), ("ended", OWN)],
        ),
        (Place(OTHER, 0.1, True), False, [("order", OTHER, "warm", "", "digest"), ("ended", OTHER)]),
        (Place(OTHER, 0.1, False), False, [("order", OTHER, "fetch", "warm", "digest")]),
    ],
)
def test_a_model_is_loaded_where_it_is_wanted(
    tmp_path: Path, place: Place, elsewhere: bool, acts: list[tuple[str, ...]]
) -> None:
    assert asyncio.run(_loaded(tmp_path, place, elsewhere=elsewhere)).acts == acts


def test_a_peer_that_does_not_do_it_is_not_waited_for(tmp_path: Path) -> None:
    heard = asyncio.run(_loaded(tmp_path, Place(OTHER, 0.1, False), refuses=True))
    assert heard.acts[-1] == ("failed", OTHER)
