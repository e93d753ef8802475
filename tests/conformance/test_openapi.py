"""The OpenAPI document is true: what is served is described, and schemathesis finds a real node to be as described."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from aiohttp import web
from served import ADD_ONE, deploy, onnx_bytes

from appliance.gateway import mesh_membership_api, mesh_servers_api, node_api
from appliance.gateway.management import add_routes
from appliance.gateway.openapi import ALL_OPERATIONS, document
from appliance.gateway.v2_rest import V2Rest
from tests.conftest import RunningNode

CONFIGURATION = Path(__file__).parents[2] / "schemathesis.toml"
UNLISTED = (*node_api.UNLISTED, *mesh_membership_api.UNLISTED, *mesh_servers_api.UNLISTED)


def served() -> set[tuple[str, str]]:
    """Methods and paths of the real routes; nothing is called, so no node need stand behind them."""
    app = web.Application()
    nothing: Any = SimpleNamespace(catalogue=None, keys=None)
    V2Rest(nothing).add_routes(app)
    add_routes(app, nothing, nothing)
    return {
        (route.method, re.sub(r"\{(\w+)[^/]*\}", r"{\1}", route.resource.canonical))
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


def test_what_is_served_is_described_and_what_is_described_is_served() -> None:
    assert served() == {(operation.method, operation.path) for operation in (*ALL_OPERATIONS, *UNLISTED)}


def test_ids_are_unique_and_parameters_are_those_of_the_path() -> None:
    ids = [operation.id for operation in ALL_OPERATIONS]
    assert len(set(ids)) == len(ids)
    for operation in ALL_OPERATIONS:
        inside = {parameter.name for parameter in operation.parameters if parameter.place == "path"}
        assert inside == set(re.findall(r"\{(\w+)\}", operation.path)), operation.id


def test_every_reference_leads_to_a_schema() -> None:
    whole = document(ALL_OPERATIONS)
    references = set(re.findall(r"'\$ref': '#/components/schemas/([^']+)'", str(whole)))
    assert references
    assert references <= set(whole["components"]["schemas"])


def test_an_address_takes_the_methods_that_are_described_and_no_others(node: RunningNode) -> None:
    paths: dict[str, set[str]] = {}
    for operation in (*ALL_OPERATIONS, *UNLISTED):
        paths.setdefault(operation.path, set()).add(operation.method)
    for path, methods in paths.items():
        answer = requests.options(node.url + re.sub(r"\{\w+\}", "word", path), timeout=60)
        assert answer.status_code == 405, path
        allowed = set(answer.headers["Allow"].replace(" ", "").split(","))
        assert allowed - {"HEAD"} == methods, path


def schemathesis(node: RunningNode, folder: Path, *flags: str, configuration: Path = CONFIGURATION) -> None:
    """Runs schemathesis with all its checks; fails with what it found."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(configuration), "run"]
    command += [f"{node.url}/openapi.json", "--header", f"Authorization: Bearer {node.admin_key}", "--no-color"]
    command += ["--seed", "1", "--generation-deterministic", "--request-timeout", "60", *flags]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2000:]


def test_schemathesis_finds_a_node_as_described(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    own = nodes()
    schemathesis(own, tmp_path, "--max-examples", "2")
    alive = requests.get(f"{own.url}/readyz", timeout=60)
    assert alive.json() == {"status": "ready"}


# Operations that only read: with the name of a model that is there, whatever else is asked.
READING = ("describe_model", "read_logs", "v2_model", "v2_model_ready", "v2_config", "v2_stats")


def test_schemathesis_finds_a_real_model_as_described(nodes: Callable[..., RunningNode], tmp_path: Path) -> None:
    own = nodes()
    deploy(own, "local/real", onnx_bytes(ADD_ONE))
    called = requests.post(f"{own.url}/v1/models/real", json=[1, 2, 3], headers=own.headers, timeout=60)
    assert called.ok, called.text
    fixed = tmp_path / "fixed.toml"
    fixed.write_text('[parameters]\nowner = "local"\nname = "real"\nmodel = "real"\n')
    chosen = [flag for name in READING for flag in ("--include-operation-id", name)]
    schemathesis(own, tmp_path, *chosen, "--max-examples", "3", configuration=fixed)


@pytest.mark.parametrize("path", ["/v2/health/live", "/livez", "/readyz", "/openapi.json"])
def test_health_and_the_document_need_no_key(node: RunningNode, path: str) -> None:
    assert requests.get(node.url + path, timeout=60).status_code == 200
