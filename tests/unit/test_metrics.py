"""/metrics with more versions than labels: the busy and the latest by name, everything in the sums."""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from appliance.catalogue.catalogue import Catalogue
from appliance.catalogue.inspection import Inspection
from appliance.catalogue.staging import stage
from appliance.core.frames import Answer
from appliance.core.manifest import Manifest
from appliance.core.names import ModelName
from appliance.core.tensors import Signature
from appliance.gateway import metrics
from appliance.gateway.states import ModelState
from appliance.observability.statistics import VersionCounters
from appliance.routing.scheduler import Counts
from appliance.security.scopes import Principal, Scope

ADMIN = Principal("id", "admin", (Scope("admin"),))


class CalledPlane:
    """What a scrape asks of the data plane, over a real catalogue and real counters."""

    node_name = "here"

    def __init__(self, catalogue: Catalogue, names: Iterable[str], active: Iterable[str]) -> None:
        self.catalogue = catalogue
        self.gone = VersionCounters()
        self._counters = {ModelName("acme", name): VersionCounters() for name in names}
        self._active = [catalogue.resolve(f"acme/{name}") for name in active]
        for at_ms, counters in enumerate(self._counters.values()):
            counters.record(Answer(1, [], executions=1, batch_rows=2), 1000, 10)
            counters._last_ms = at_ms

    @property
    def scheduler(self) -> "CalledPlane":
        return self

    def counts(self) -> Counts:
        return Counts(100, 60, 9, 1, 3, 2, 0)

    def node_ready(self) -> bool:
        return True

    def active(self) -> list[Any]:
        return self._active

    def counters(self, may_see: Any) -> Any:
        return ((name, 1, counters) for name, counters in self._counters.items() if may_see(name))

    def state(self, model: Any) -> ModelState:
        return ModelState(model, "asleep", "", [], 0)


@pytest.fixture
def catalogue(tmp_path: Path) -> Any:
    catalogue = Catalogue(tmp_path)
    for number in range(12):
        incoming = catalogue.new_incoming()
        (incoming / "upload").write_bytes(b"\x08\x0a")
        artifact = stage(incoming / "upload", incoming)
        name = ModelName("acme", f"m{number:02}")
        catalogue.publish(
            artifact, Inspection(Signature((), ()), True, ""), name=name, version=None, manifest=Manifest()
        )
    yield catalogue
    catalogue.close()


def read(plane: CalledPlane, principal: Principal) -> dict[str, dict[str, float]]:
    """The samples by name, each by the model that it is about."""
    scraped = asyncio.run(metrics.scrape(plane, principal))  # type: ignore[arg-type]
    registry = metrics.CollectorRegistry(auto_describe=False)
    registry.register(metrics.NodeCollector(plane, scraped))  # type: ignore[arg-type]
    text = metrics.choose_encoder("")[0](registry).decode()
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[sample.labels.get("model", "")] = sample.value
    return found


def test_labels_are_for_the_busy_and_the_latest_and_the_sums_for_all(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_LABELLED", 3)
    plane = CalledPlane(catalogue, [f"m{number:02}" for number in range(10)], active=["m00", "m11"])
    found = read(plane, ADMIN)
    assert sorted(found["ingle_calls_total"]) == ["acme/m00", "acme/m09", "acme/m11"]
    assert found["ingle_calls_total"]["acme/m11"] == 0  # loaded and not called yet
    assert found["ingle_node_calls_total"] == {"": 10}
    assert found["ingle_node_inference_rows_total"] == {"": 20}
    assert found["ingle_node_call_duration_seconds_count"] == {"": 10}
    assert (found["ingle_node_models"], found["ingle_node_called_versions"]) == ({"": 12}, {"": 10})


def test_the_sums_of_a_key_are_of_what_it_may_call(catalogue: Catalogue) -> None:
    plane = CalledPlane(catalogue, ["m00", "m01"], active=["m02"])
    plane.gone.record(Answer(1, [], executions=1, batch_rows=1), 1000, 10)
    one = Principal("id", "one", (Scope("call", "acme", "m01"),))
    assert read(plane, one)["ingle_node_calls_total"] == {"": 1}
    assert list(read(plane, one)["ingle_calls_total"]) == ["acme/m01"]
    # What versions that are gone did stays in the node's own sums: a counter must not go back.
    assert read(plane, ADMIN)["ingle_node_calls_total"] == {"": 3}


def test_the_memory_and_what_gave_way_are_told(catalogue: Catalogue) -> None:
    shown = read(CalledPlane(catalogue, [], []), ADMIN)
    assert shown["ingle_node_budget_bytes"][""] == 100
    assert shown["ingle_node_used_bytes"][""] == 60
    assert shown["ingle_node_workers_started_total"][""] == 9
