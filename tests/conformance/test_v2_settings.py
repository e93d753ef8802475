"""Log and trace settings over tritonclient: they take effect, they are bounded, and what cannot be is refused."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import requests
import tritonclient.grpc
import tritonclient.http
from google.protobuf.json_format import MessageToDict
from served import ADD_ONE, deploy, make_key, onnx_bytes
from tritonclient.utils import InferenceServerException

from tests.conftest import RunningNode, start_node, stop_node

STAMPS = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END"]
STAMPS += ["COMPUTE_OUTPUT_START", "COMPUTE_END", "REQUEST_END"]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    node = start_node(tmp_path_factory.mktemp("settings"))
    for name in ("one", "two"):
        deploy(node, f"traced/{name}", onnx_bytes(ADD_ONE))
    yield node
    assert stop_node(node) == 0


class Control:
    """One of tritonclient's clients, whose settings come back in one form."""

    def __init__(self, node: RunningNode, kind: str) -> None:
        self.module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[kind]
        self.client = self.module.InferenceServerClient(getattr(node, kind))
        self.key = {"authorization": f"Bearer {node.admin_key}"}

    def trace(self, model: str | None = None, **changed: Any) -> dict[str, Any]:
        ask = self.client.update_trace_settings if changed else self.client.get_trace_settings
        found = ask(model_name=model, headers=self.key, **({"settings": changed} if changed else {}))
        if isinstance(found, dict):
            return found
        values = {name: list(setting.value) for name, setting in found.settings.items()}
        return {name: value if name == "trace_level" else value[0] for name, value in values.items()}

    def log(self, **changed: Any) -> dict[str, Any]:
        ask = self.client.update_log_settings if changed else self.client.get_log_settings
        found = ask(headers=self.key, **({"settings": changed} if changed else {}))
        if isinstance(found, dict):
            return found
        settings = MessageToDict(found, preserving_proto_field_name=True)["settings"]
        return {name: next(iter(value.values())) for name, value in settings.items()}

    def call(self, model: str, count: int = 1) -> None:
        given = self.module.InferInput("x", [1, 3], "FP32")
        given.set_data_from_numpy(np.zeros((1, 3), np.float32))
        for _ in range(count):
            self.client.infer(f"traced/{model}", [given], headers=self.key)


@pytest.fixture(params=["http", "grpc"])
def control(request: Any, own: RunningNode) -> Iterator[Control]:
    """Settings are as they were at first before and after each test."""
    control = Control(own, request.param)
    yield control
    nothing = dict.fromkeys(("trace_level", "trace_rate", "trace_count", "trace_file"))
    for model in (None, "traced/one", "traced/two"):
        control.trace(model, **nothing)
    control.log(log_info=True, log_warning=True, log_error=True, log_verbose_level=0)
    control.client.close()


def traces(node: RunningNode, name: str) -> list[dict[str, Any]]:
    path = node.data_dir / "traces" / name
    return json.loads(path.read_text()) if path.exists() else []


def test_calls_are_traced_into_the_file_of_the_settings_in_tritons_form(control: Control, own: RunningNode) -> None:
    name = f"form-{control.module.__name__}.json"
    assert control.trace()["trace_level"] == ["OFF"]
    now = control.trace(trace_level=["TIMESTAMPS"], trace_rate="1", trace_file=name)
    assert (now["trace_level"], now["trace_rate"], now["trace_count"]) == (["TIMESTAMPS"], "1", "-1")
    control.call("one", 3)
    control.trace(trace_level=["OFF"])  # what was traced is in the file after that
    control.call("one")
    found = traces(own, name)
    assert [(entry["model_name"], entry["model_version"]) for entry in found[::2]] == [("traced/one", 1)] * 3
    for described, stamped in zip(found[::2], found[1::2], strict=True):
        assert described["id"] == stamped["id"]
        assert [stamp["name"] for stamp in stamped["timestamps"]] == STAMPS
        times = [stamp["ns"] for stamp in stamped["timestamps"]]
        assert times == sorted(times)
        told = requests.get(f"{own.url}/v1/calls/{described['request_id']}", headers=own.headers, timeout=60).json()
        assert told["model"] == "traced/one"


def test_rate_and_count_choose_among_calls(control: Control, own: RunningNode) -> None:
    name = f"rate-{control.module.__name__}.json"
    control.trace(trace_level="TIMESTAMPS", trace_rate="3", trace_count="2", trace_file=name)
    control.call("one", 12)
    assert control.trace()["trace_count"] == "0"
    control.trace(trace_level=None)
    assert len(traces(own, name)) == 2 * 2


def test_a_model_differs_from_the_node_until_it_is_cleared(control: Control, own: RunningNode) -> None:
    name = f"model-{control.module.__name__}.json"
    control.trace(trace_rate="1", trace_file=name)
    assert control.trace("traced/one", trace_level=["TIMESTAMPS"])["trace_level"] == ["TIMESTAMPS"]
    assert control.trace("traced/two")["trace_level"] == ["OFF"]
    control.call("one", 2)
    control.call("two", 2)
    assert control.trace("traced/one", trace_level=None)["trace_level"] == ["OFF"]
    assert {entry["model_name"] for entry in traces(own, name)[::2]} == {"traced/one"}


def test_a_call_that_fails_is_traced_too(control: Control, own: RunningNode) -> None:
    name = f"failed-{control.module.__name__}.json"
    control.trace(trace_level=["TIMESTAMPS"], trace_rate="1", trace_file=name)
    wrong = control.module.InferInput("x", [1, 4], "FP32")
    wrong.set_data_from_numpy(np.zeros((1, 4), np.float32))
    with pytest.raises(InferenceServerException):
        control.client.infer("traced/one", [wrong], headers=control.key)
    control.trace(trace_level=["OFF"])
    assert [stamp["name"] for stamp in traces(own, name)[1]["timestamps"]] == ["REQUEST_START", "REQUEST_END"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"trace_file": "/etc/passwd"}, "a file's name alone"),
        ({"trace_file": "../up.json"}, "a file's name alone"),
        ({"trace_file": ".hidden"}, "a file's name alone"),
        ({"trace_file": "x" * 100_000}, "a file's name alone"),
        ({"trace_level": ["TENSORS"]}, "tensors are not traced"),
        ({"trace_level": ["TIMESTAMPS", "TENSORS"]}, "tensors are not traced"),
        ({"trace_rate": "0"}, "from 1 to"),
        ({"trace_rate": "often"}, "from 1 to"),
        ({"trace_count": "-2"}, "from -1 to"),
        ({"log_frequency": "10"}, "files are not split"),
        ({"trace_mode": "opentelemetry"}, "can only be 'triton'"),
        ({"colour": "red"}, "no trace setting 'colour'"),
    ],
)
def test_a_trace_setting_that_cannot_be_is_refused_and_changes_nothing(
    control: Control, changed: dict[str, Any], words: str
) -> None:
    before = control.trace()
    with pytest.raises(InferenceServerException, match=words):
        control.trace(**{"trace_level": ["TIMESTAMPS"], **changed})
    assert control.trace() == before


def test_a_model_that_is_not_here_has_no_settings(control: Control) -> None:
    for changed in ({}, {"trace_rate": "1"}):
        with pytest.raises(InferenceServerException, match="traced/none"):
            control.trace("traced/none", **changed)


def test_a_full_folder_ends_tracing_and_not_the_node(control: Control, own: RunningNode) -> None:
    folder = own.data_dir / "traces"
    folder.mkdir(exist_ok=True)
    others = [folder / f"other-{number}" for number in range(32)]
    for other in others:
        other.touch()
    name = f"full-{control.module.__name__}.json"
    control.trace(trace_level=["TIMESTAMPS"], trace_rate="1", trace_file=name)
    control.call("one", 2)
    control.trace(trace_level=["OFF"])
    assert not (folder / name).exists()
    assert "no more traces are written" in own.log.read_text()
    for other in others:
        other.unlink()


def test_the_nodes_log_is_as_verbose_as_the_settings_say(control: Control, own: RunningNode) -> None:
    control.call("one")
    before = len(own.log.read_text())
    assert control.log()["log_info"] is True
    assert control.log(log_verbose_level=1)["log_verbose_level"] == 1
    control.call("one")
    said = own.log.read_text()[before:]
    assert "debug gateway a call was answered" in said
    assert "model=traced/one" in said
    control.log(log_verbose_level=0, log_info=False)
    before = len(own.log.read_text())
    control.call("one")
    assert own.log.read_text()[before:] == ""
    settings = control.log()
    assert (settings["log_info"], settings["log_error"]) == (False, True)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"log_file": "/etc/passwd"}, "log_file cannot be changed"),
        ({"log_format": "default"}, "log_format cannot be changed"),
        ({"log_verbose_level": 2}, "expected 0, or 1"),
        ({"log_colour": True}, "no log setting 'log_colour'"),
    ],
)
def test_a_log_setting_that_cannot_be_is_refused_and_changes_nothing(
    control: Control, changed: dict[str, Any], words: str
) -> None:
    before = control.log()
    with pytest.raises(InferenceServerException, match=words):
        control.log(log_info=False, **changed)
    assert control.log() == before


def test_who_may_only_call_reads_and_does_not_change(control: Control, own: RunningNode) -> None:
    control.key = {"authorization": f"Bearer {make_key(own, 'call')}"}
    assert control.trace()
    assert control.trace("traced/one")
    assert control.log()
    for change in (
        lambda: control.trace(trace_rate="1"),
        lambda: control.trace("traced/one", trace_rate="1"),
        lambda: control.log(log_info=False),
    ):
        with pytest.raises(InferenceServerException, match="may not admin"):
            change()
    control.key = {"authorization": f"Bearer {own.admin_key}"}
