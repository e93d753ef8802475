"""Managing a real node over HTTP: deploys, versions, aliases, logs, keys, metrics, health and draining."""

import http.client
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families
from served import ADD_ONE, bundle, deploy, make_key, onnx_bytes

from appliance.gateway.openapi import ALL_OPERATIONS
from appliance.gateway.operations import Operation
from tests.conftest import RunningNode

Ask = Callable[..., requests.Response]
PLUS_ONE = onnx_bytes(ADD_ONE)
PLUS_TWO = onnx_bytes(ADD_ONE.replace("{1}", "{2}"))
FLOWERS = 'description = "three kinds of iris"\ntags = ["demo", "flowers"]\n'


@pytest.fixture
def ask(node: RunningNode) -> Iterator[Ask]:
    """Sends a request to the shared node, as its admin unless told otherwise."""
    with requests.Session() as session:

        def send(method: str, path: str, body: Any = None, *, key: str | None = None, **more: Any) -> requests.Response:
            headers = {"Authorization": f"Bearer {node.admin_key if key is None else key}"} if key != "" else {}
            how = {"json": body} if isinstance(body, dict | list) else {"data": body}
            headers.update(more.pop("headers", {}))
            return session.request(method, node.url + path, headers=headers, timeout=60, **how, **more)

        yield send


def wait_until(condition: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends_s, "it did not come to be"
        time.sleep(0.01)


# Deploying.


def test_a_deploy_says_what_was_made_and_the_same_again_is_nothing_to_do(ask: Ask) -> None:
    first = ask("PUT", "/v1/models/deploys/once", PLUS_ONE)
    assert first.status_code == 201
    made = first.json()
    assert made.keys() == {"model", "version", "digest", "ordinal", "warnings", "created"}
    assert (made["model"], made["version"], made["ordinal"], made["created"]) == ("deploys/once", "1.0.0", 1, True)
    again = ask("PUT", "/v1/models/deploys/once:1.0.0", PLUS_ONE)
    assert (again.status_code, again.json()) == (200, {**made, "created": False})


def test_a_deploy_without_a_version_takes_the_next_minor_and_never_changes_one(ask: Ask) -> None:
    versions = [ask("PUT", "/v1/models/deploys/next", model).json()["version"] for model in (PLUS_ONE, PLUS_TWO)]
    assert versions == ["1.0.0", "1.1.0"]
    other = ask("PUT", "/v1/models/deploys/next:1.0.0", PLUS_TWO)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")


def test_a_bare_name_is_local(ask: Ask) -> None:
    assert ask("PUT", "/v1/models/deploys-bare:2.0.0", PLUS_ONE).json()["model"] == "local/deploys-bare"
    assert ask("GET", "/v1/models/local/deploys-bare").json() == {
        **ask("GET", "/v1/models/deploys-bare").json(),
        "curl": ask("GET", "/v1/models/local/deploys-bare").json()["curl"],
    }
    assert ask("DELETE", "/v1/models/deploys-bare").json() == {"model": "local/deploys-bare", "deleted": ["2.0.0"]}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("deploys/bad name", 400),
        ("deploys/ready", 400),
        ("deploys/x:1.2", 400),
        ("deploys/x:", 400),
        ("deploys/x:one", 400),
        (f"deploys/{'x' * 129}", 400),
    ],
)
def test_what_is_no_name_or_version_is_refused_before_the_body_is_read(ask: Ask, path: str, status: int) -> None:
    answer = ask("PUT", f"/v1/models/{path}", PLUS_ONE)
    assert (answer.status_code, answer.json()["code"]) == (status, "bad_input")


@pytest.mark.parametrize("body", [b"", b"\x89PNG\r\n", b"<html></html>", PLUS_ONE[:-7], b"PK\x03\x04rest"])
def test_what_is_no_model_is_refused_and_nothing_is_stored(node: RunningNode, ask: Ask, body: bytes) -> None:
    answer = ask("PUT", "/v1/models/deploys/garbage", body)
    assert (answer.status_code, answer.json()["code"]) == (422, "refused")
    assert ask("GET", "/v1/models/deploys/garbage").status_code == 404
    assert list((node.data_dir / "incoming").iterdir()) == []


def test_a_form_is_told_how_to_send_a_file(ask: Ask) -> None:
    answer = ask("PUT", "/v1/models/deploys/form", files={"file": PLUS_ONE})
    assert answer.status_code == 415
    assert "--upload-file" in answer.json()["error"]


def test_an_upload_that_breaks_off_leaves_nothing(node: RunningNode, ask: Ask) -> None:
    incoming = node.data_dir / "incoming"
    with socket.create_connection(node.http.split(":")) as caller:  # type: ignore[arg-type]
        head = f"PUT /v1/models/deploys/broken HTTP/1.1\r\nHost: x\r\nAuthorization: {node.admin_key}\r\n"
        caller.sendall(head.encode() + b"Content-Length: 1000000\r\n\r\n" + PLUS_ONE)
        wait_until(lambda: list(incoming.iterdir()) != [])
    wait_until(lambda: list(incoming.iterdir()) == [])
    assert ask("GET", "/v1/models/deploys/broken").status_code == 404


def test_an_upload_is_taken_only_as_it_is(node: RunningNode, ask: Ask) -> None:
    answer = ask("PUT", "/v1/models/deploys/squeezed", PLUS_ONE, headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported")
    assert list((node.data_dir / "incoming").iterdir()) == []


def test_an_upload_larger_than_the_disk_is_refused_before_it_is_sent(node: RunningNode) -> None:
    connection = http.client.HTTPConnection(node.http, timeout=60)
    connection.putrequest("PUT", "/v1/models/deploys/vast")
    connection.putheader("Authorization", node.admin_key)
    connection.putheader("Content-Length", str(2**60))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_an_upload_is_written_as_it_comes_and_not_held_in_memory(node: RunningNode, ask: Ask) -> None:
    size_bytes = 160 * 2**20
    before_bytes = peak_memory_bytes(node)
    answer = ask("PUT", "/v1/models/deploys/large", (bytes(2**20) for _ in range(size_bytes // 2**20)))
    assert answer.status_code == 422
    assert peak_memory_bytes(node) - before_bytes < size_bytes / 2


def peak_memory_bytes(node: RunningNode) -> int:
    lines = Path(f"/proc/{node.process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


# What exists.


def test_models_are_found_by_words_and_tags_and_sorted_by_name(node: RunningNode, ask: Ask) -> None:
    deploy(node, "found/flowers", bundle(PLUS_ONE, manifest_toml=FLOWERS))
    deploy(node, "found/another", bundle(PLUS_ONE, manifest_toml=FLOWERS.replace("iris", "tulip")))

    def names(**asked: str) -> list[str]:
        return [row["model"] for row in ask("GET", "/v1/models", params=asked).json()["models"]]

    assert names(q="iris kinds") == ["found/flowers"]
    assert names(q="found", tag="flowers") == ["found/another", "found/flowers"]
    assert names(q="found", tag="fruit") == []
    assert {"found/another", "found/flowers"} <= set(names())
    (row,) = ask("GET", "/v1/models", params={"q": "iris"}).json()["models"]
    assert (row["version"], row["tags"], row["description"]) == ("1.0.0", ["demo", "flowers"], "three kinds of iris")


def test_models_are_listed_page_by_page(node: RunningNode, ask: Ask) -> None:
    expected = [f"pages/m{number}" for number in range(5)]
    for name in expected:
        deploy(node, name, PLUS_ONE)
    pages = [ask("GET", "/v1/models", params={"q": "pages/", "limit": 2}).json()]
    while "next" in pages[-1]:
        pages.append(ask("GET", "/v1/models", params={"q": "pages/", "limit": 2, "after": pages[-1]["next"]}).json())
    assert [[row["model"] for row in page["models"]] for page in pages] == [expected[:2], expected[2:4], expected[4:]]
    for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "many"}, {"after": "no/name/this"}):
        assert ask("GET", "/v1/models", params=wrong).status_code == 400


def test_a_model_says_what_it_wants_what_there_is_of_it_and_how_it_fares(node: RunningNode, ask: Ask) -> None:
    deploy(node, "told/model", bundle(PLUS_ONE, manifest_toml=FLOWERS, labels_txt="a\nb\nc\n"))
    deploy(node, "told/model:2.0.0-rc.1", PLUS_TWO)
    told = ask("GET", "/v1/models/told/model").json()
    (told_input,) = told["inputs"]
    assert told_input == {
        "name": "x",
        "dtype": "FP32",
        "shape": [-1, 3],
        "optional": False,
        "description": "",
        "given_as": "",
    }
    assert [output["name"] for output in told["outputs"]] == ["y"]
    assert told["labels"] == ["a", "b", "c"]
    assert [(row["version"], row["ordinal"]) for row in told["versions"]] == [("1.0.0", 1), ("2.0.0-rc.1", 2)]
    assert (told["default"], told["state"], told["workers"]) == ("1.0.0", "asleep", [])
    assert f"{node.url}/v1/models/told/model" in told["curl"]
    assert ask("POST", "/v1/models/told/model", [1, 2, 3]).ok
    after = ask("GET", "/v1/models/told/model").json()
    assert after["state"] == "warm"
    assert [worker["providers"] for worker in after["workers"]] == [["CPUExecutionProvider"]]


def test_a_curl_line_holds_nothing_that_a_caller_put_into_it(node: RunningNode, ask: Ask) -> None:
    deploy(node, "told/safely", PLUS_ONE)
    told = ask("GET", "/v1/models/told/safely", headers={"Host": "a';rm -rf x;'"}).json()
    assert "rm -rf" not in told["curl"]


def test_a_model_that_is_not_there_is_not_found_by_any_operation(ask: Ask) -> None:
    for method, path in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", ""),
        ("GET", "/logs"),
        ("POST", "/rollback"),
        ("DELETE", "/aliases/prod"),
    ]:
        answer = ask(method, f"/v1/models/nobody/nothing{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), (method, path)


def test_a_version_is_deleted_alone_and_a_model_whole(node: RunningNode, ask: Ask) -> None:
    for model in (PLUS_ONE, PLUS_TWO, PLUS_ONE + b""):
        deploy(node, "gone/model", model)
    assert ask("DELETE", "/v1/models/gone/model:1.1.0").json() == {"model": "gone/model", "deleted": ["1.1.0"]}
    assert ask("GET", "/v1/models/gone/model:1.1.0").status_code == 404
    assert ask("DELETE", "/v1/models/gone/model").json()["deleted"] == ["1.0.0", "1.2.0"]
    assert ask("GET", "/v1/models/gone/model").status_code == 404


# Aliases.


def test_an_alias_means_a_version_until_it_is_forgotten(node: RunningNode, ask: Ask) -> None:
    deploy(node, "alias/model", PLUS_ONE)
    deploy(node, "alias/model", PLUS_TWO)
    address = "/v1/models/alias/model/aliases/prod"
    assert ask("PUT", address, {"version": "1.0"}).json() == {
        "model": "alias/model",
        "alias": "prod",
        "version": "1.0.0",
    }
    assert ask("GET", "/v1/models/alias/model:prod").json()["version"] == "1.0.0"
    assert ask("GET", "/v1/models/alias/model").json()["aliases"] == {"prod": "1.0.0"}
    assert ask("DELETE", address).json() == {"model": "alias/model", "alias": "prod"}
    assert ask("GET", "/v1/models/alias/model:prod").status_code == 404
    assert ask("DELETE", address).status_code == 404


@pytest.mark.parametrize(
    ("alias", "body", "status"),
    [
        ("prod", {"version": "9.9.9"}, 404),
        ("latest", {"version": "1.0.0"}, 400),
        ("1.0", {"version": "1.0.0"}, 400),
        ("prod", {}, 400),
        ("prod", {"version": 1}, 400),
        ("prod", {"version": "1.0.0", "more": 1}, 400),
        ("prod", [], 400),
        ("prod", "not JSON", 400),
        ("prod", b"\xff", 400),
        ("prod", b" " * (2**20 + 1), 413),
    ],
)
def test_an_alias_that_cannot_be_is_refused(node: RunningNode, ask: Ask, alias: str, body: Any, status: int) -> None:
    deploy(node, "alias/refused", PLUS_ONE)
    assert ask("PUT", f"/v1/models/alias/refused/aliases/{alias}", body).status_code == status


def test_a_rollback_moves_default_back(node: RunningNode, ask: Ask) -> None:
    deploy(node, "back/model", PLUS_ONE)
    assert ask("POST", "/v1/models/back/model/rollback").status_code == 409
    deploy(node, "back/model", PLUS_TWO)
    rolled = ask("POST", "/v1/models/back/model/rollback")
    assert rolled.json() == {"model": "back/model", "alias": "default", "version": "1.0.0"}
    assert ask("POST", "/v1/models/back/model", [1, 1, 1]).json()["outputs"] == {"y": [[2.0, 2.0, 2.0]]}


# Keys.


def test_no_key_or_a_wrong_one_is_told_so_by_every_operation_that_needs_one(ask: Ask) -> None:
    for operation in ALL_OPERATIONS:
        if not operation.open:
            for key in ("", "simwrong"):
                answer = ask(operation.method, address_of(operation), key=key)
                assert answer.status_code == 401, (operation.id, answer.text)
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert answer.json()["code"] == "unauthenticated"


def address_of(operation: Operation) -> str:
    path = operation.path
    for parameter in operation.parameters:
        path = path.replace("{" + parameter.name + "}", "x")
    return path


@pytest.mark.parametrize("form", ["Bearer {}", "Simple {}", "{}"])
def test_a_key_comes_in_three_forms(node: RunningNode, ask: Ask, form: str) -> None:
    answer = ask("GET", "/v1/models", key="", headers={"Authorization": form.format(node.admin_key)})
    assert answer.status_code == 200


def test_a_key_sees_and_does_what_its_scopes_allow(node: RunningNode, ask: Ask) -> None:
    deploy(node, "mine/model", PLUS_ONE)
    deploy(node, "theirs/model", PLUS_ONE)
    caller, deployer = make_key(node, "call:mine/*"), make_key(node, "deploy:mine/model")
    for key in (caller, deployer):
        assert [row["model"] for row in ask("GET", "/v1/models", key=key).json()["models"]] == ["mine/model"]
        assert ask("GET", "/v1/models/theirs/model", key=key).status_code == 403
        assert ask("GET", "/v1/keys", key=key).status_code == 403
        assert ask("POST", "/v1/drain", key=key).status_code == 403
        assert ask("POST", "/v1/models/mine/model", [1, 2, 3], key=key).status_code == 200
    for method, path, body in [
        ("PUT", "", PLUS_TWO),
        ("PUT", "/aliases/x", {"version": "1"}),
        ("GET", "/logs", None),
        ("DELETE", "", None),
    ]:
        assert ask(method, f"/v1/models/mine/model{path}", body, key=caller).status_code == 403
        assert ask(method, f"/v1/models/mine/model{path}", body, key=deployer).ok


def test_a_key_s_secret_is_shown_once_and_its_end_is_at_once(ask: Ask) -> None:
    made = ask("POST", "/v1/keys", {"label": "a\nlabel", "scopes": ["call", "deploy:me/*"]})
    assert made.status_code == 201
    new = made.json()
    assert (new["label"], new["scopes"]) == ("a\ufffdlabel", ["call:*", "deploy:me/*"])
    listed = ask("GET", "/v1/keys")
    assert new["id"] in [row["id"] for row in listed.json()["keys"]]
    assert new["key"] not in listed.text
    assert ask("GET", "/v1/models", key=new["key"]).status_code == 200
    assert ask("DELETE", f"/v1/keys/{new['id']}").json()["revoked_s"] > new["created_s"]
    assert ask("GET", "/v1/models", key=new["key"]).status_code == 401


def test_nobody_revokes_the_key_they_ask_with(node: RunningNode, ask: Ask) -> None:
    admin = next(row for row in ask("GET", "/v1/keys").json()["keys"] if row["label"].startswith("admin"))
    answer = ask("DELETE", f"/v1/keys/{admin['id']}")
    assert answer.status_code == 409
    assert ask("DELETE", "/v1/keys/nothere").status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"label": "x", "scopes": []},
        {"label": "x", "scopes": ["read"]},
        {"label": "x", "scopes": ["call:"]},
        {"label": "x", "scopes": ["call:a/b/c"]},
        {"label": "", "scopes": ["call"]},
        {"label": "x" * 81, "scopes": ["call"]},
        {"scopes": ["call"]},
        {"label": "x", "scopes": ["call"], "more": 1},
        {"label": None, "scopes": ["call"]},
    ],
)
def test_a_key_that_cannot_be_is_refused(ask: Ask, body: Any) -> None:
    assert ask("POST", "/v1/keys", body).status_code == 400


# The node.


def test_health_needs_no_key(ask: Ask) -> None:
    assert ask("GET", "/livez", key="").json() == {"status": "live"}
    assert ask("GET", "/readyz", key="").json() == {"status": "ready"}


def test_a_node_lists_itself(node: RunningNode, ask: Ask) -> None:
    deploy(node, "nodes/model", PLUS_ONE)
    (this,) = ask("GET", "/v1/nodes").json()["nodes"]
    assert (this["state"], this["this"]) == ("ready", True)
    assert this["models"] >= 1
    layers = {layer["name"]: layer for layer in this["sandbox"]}
    assert set(layers) == {"network namespace", "no_new_privs", "rlimits", "Landlock", "seccomp"}
    assert all(layer["detail"] for layer in layers.values())


def test_what_confines_models_is_for_administrators_to_know(ask: Ask) -> None:
    caller = ask("POST", "/v1/keys", {"label": "a camera", "scopes": ["call"]}).json()["key"]
    (this,) = ask("GET", "/v1/nodes", key=caller).json()["nodes"]
    assert this["sandbox"] is None


def test_a_call_is_remembered_whatever_became_of_it(node: RunningNode, ask: Ask) -> None:
    deploy(node, "recall/model", PLUS_ONE)
    good, bad = (ask("POST", "/v1/models/recall/model", row) for row in ([1, 2, 3], ["no", "numbers", "!"]))
    remembered = ask("GET", f"/v1/calls/{good.headers['X-Ingle-Call']}").json()
    assert (remembered["model"], remembered["version"], remembered["status"]) == ("recall/model", "1.0.0", "ok")
    assert remembered["seconds"] == good.json()["seconds"]
    failed = ask("GET", f"/v1/calls/{bad.headers['X-Ingle-Call']}").json()
    assert (failed["status"], failed["error"]) == (bad.json()["code"], bad.json()["error"])
    assert ask("GET", "/v1/calls/never").status_code == 404
    stranger = make_key(node, "call:other/*")
    assert ask("GET", f"/v1/calls/{remembered['id']}", key=stranger).status_code == 404


def test_logs_are_lines(node: RunningNode, ask: Ask) -> None:
    deploy(node, "logs/model", PLUS_ONE)
    assert ask("GET", "/v1/models/logs/model/logs").json() == {"model": "logs/model", "lines": []}
    assert ask("GET", "/v1/models/logs/model:7/logs").status_code == 404


def samples(text: str, model: str) -> dict[str, float]:
    """The metrics of one model: the name and the labels that are not its own, to the value."""
    return {
        " ".join([sample.name, *(v for k, v in sorted(sample.labels.items()) if k not in ("model", "version"))]): (
            sample.value
        )
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == model
    }


def test_metrics_count_what_was_called(node: RunningNode, ask: Ask) -> None:
    deploy(node, "metrics/model", PLUS_ONE)
    for row in ([1, 2, 3], [[1, 2, 3], [4, 5, 6]], ["no", "numbers", "!"]):
        ask("POST", "/v1/models/metrics/model", row)
    text = ask("GET", "/metrics").text
    read = samples(text, "metrics/model")
    assert read["ingle_calls_total ok"] == 2
    assert read["ingle_calls_total bad_input"] == 1
    assert read["ingle_call_duration_seconds_bucket +Inf"] == read["ingle_call_duration_seconds_count"] == 2
    assert read["ingle_inference_rows_total"] == 3
    assert read["ingle_model_state warm"] == 1
    assert read["ingle_call_phase_seconds_total compute_infer"] > 0
    assert "ingle_node_ready 1.0" in text


def test_metrics_show_a_key_no_model_it_may_not_call(node: RunningNode, ask: Ask) -> None:
    deploy(node, "metrics/hidden", PLUS_ONE)
    ask("POST", "/v1/models/metrics/hidden", [1, 2, 3])
    assert "metrics/hidden" in ask("GET", "/metrics").text
    assert "metrics/hidden" not in ask("GET", "/metrics", key=make_key(node, "call:other/*")).text


def test_metrics_come_in_openmetrics_form_when_asked(ask: Ask) -> None:
    answer = ask("GET", "/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text")
    assert answer.text.endswith("# EOF\n")


def test_what_an_address_does_not_take_is_answered_with_what_it_does(ask: Ask) -> None:
    answer = ask("PATCH", "/v1/models/any/thing")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) >= {"GET", "PUT", "POST", "DELETE"}
    assert answer.json()["code"] == "method_not_allowed"


def test_a_drained_node_lives_but_takes_no_calls(nodes: Callable[..., RunningNode]) -> None:
    own = nodes()
    deploy(own, "drained/model", PLUS_ONE)
    address = f"{own.url}/v1/models/drained/model"
    assert requests.post(address, json=[1, 2, 3], headers=own.headers, timeout=60).ok
    assert requests.post(f"{own.url}/v1/drain", headers=own.headers, timeout=60).json()["drained"] is True
    refused = requests.post(address, json=[1, 2, 3], headers=own.headers, timeout=60)
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) >= 1
    assert requests.get(f"{own.url}/readyz", timeout=60).status_code == 503
    assert requests.get(f"{own.url}/livez", timeout=60).status_code == 200


def test_an_open_node_is_called_and_read_without_a_key_but_not_changed(nodes: Callable[..., RunningNode]) -> None:
    own = nodes("--open")
    deploy(own, "open/model", PLUS_ONE)
    address = f"{own.url}/v1/models/open/model"
    assert requests.post(address, json=[1, 2, 3], timeout=60).ok
    assert requests.get(address, timeout=60).ok
    assert requests.get(f"{own.url}/v1/models", timeout=60).json()["models"]
    assert requests.put(address, PLUS_TWO, timeout=60).status_code == 401
    assert requests.get(f"{own.url}/v1/keys", timeout=60).status_code == 401
    assert requests.get(address, headers={"Authorization": "Bearer wrong"}, timeout=60).status_code == 401


def test_what_is_wished_of_a_models_replicas_is_kept_and_takes_effect(node: RunningNode, ask: Ask) -> None:
    assert ask("PUT", "/v1/models/local/scaled", PLUS_ONE).status_code == 201
    assert ask("GET", "/v1/models/local/scaled/scale").json() == {
        "min_replicas": 0,
        "max_replicas": 0,
        "target_latency_s": 0.0,
    }
    wished = {"min_replicas": 1, "max_replicas": 2, "target_latency_s": 0.5}
    assert ask("PUT", "/v1/models/local/scaled/scale", json=wished).json() == wished
    assert ask("GET", "/v1/models/local/scaled").json()["scale"] == wished
    wait_until(lambda: ask("GET", "/v1/models/local/scaled").json()["state"] == "warm")
    assert ask("PUT", "/v1/models/local/scaled/scale", json={"min_replicas": -1}).status_code == 400
    assert ask("GET", "/v1/models/local/nothing/scale").status_code == 404


def test_what_the_node_does_is_told_with_what_it_measured(node: RunningNode, ask: Ask) -> None:
    assert ask("PUT", "/v1/models/local/measured", PLUS_ONE).status_code == 201
    assert ask("POST", "/v1/models/local/measured", [1, 2, 3]).status_code == 200
    wait_until(lambda: ask("GET", "/v1/models/local/measured").json()["measured"]["memory_bytes"] > 0)
    activity = ask("GET", "/v1/activity").json()
    assert 0 < activity["memory"]["used_bytes"] < activity["memory"]["budget_bytes"]
    (shown,) = [model for model in activity["models"] if model["model"] == "local/measured"]
    assert (shown["state"], shown["replicas"], shown["answered"]) == ("warm", 1, 1)
    assert shown["cold_start_s"] > 0
    assert shown["memory_bytes"] > 0
