"""The demo, as `make demo` runs it: a real node, a real model, real files, and a curl line that is true."""

import importlib.util
import json
import os
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from appliance.cli.demo import MANIFEST
from appliance.core.manifest import BytesInput, parse_manifest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("magika") is None, reason="the demo's model is not installed; `make install` brings it"
)
COMMAND = [sys.executable, "-m", "appliance.cli.main", "demo"]


def test_the_demo_identifies_real_files_and_ends_by_itself_when_asked_to() -> None:
    done = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers = {
        Path(row[0]).name: row[1] for row in (line.split() for line in done.stdout.splitlines()) if len(row) == 4
    }
    assert answers["demo.py"] == "python"
    assert answers["config.min.json"] == "json"
    assert answers["magika.toml"] == "toml"


def test_the_demo_stays_up_until_interrupted_and_its_curl_line_is_true() -> None:
    # Whoever started the tests in the background had the interrupt ignored, and that is inherited.
    command = ["env", "--default-signal=INT", *COMMAND]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        shown = []
        for line in process.stdout:
            shown.append(line)
            if "until Ctrl-C" in line:
                break
        try:
            (curl,) = (shlex.split(line) for line in shown if line.strip().startswith("curl "))
            headers = dict(word.split(": ", 1) for word in curl if ": " in word)
            file = next(word for word in curl if word.startswith("@"))[1:]
            request = urllib.request.Request(curl[-1], Path(file).read_bytes(), headers)
            with urllib.request.urlopen(request, timeout=30) as response:
                assert json.load(response)["labels"][0][0]["label"] == "python"
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    pid = next(int(line.split("(pid ")[1].split(")")[0]) for line in shown if "(pid " in line)
    folder = next(line.rsplit(" in ", 1)[1].strip()[:-1] for line in shown if "its data in" in line)
    assert not Path(folder).exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_manifest_looks_at_the_bytes_that_the_model_was_trained_on() -> None:
    origin = importlib.util.find_spec("magika")
    assert origin is not None
    assert origin.origin is not None
    (config,) = Path(origin.origin).parent.glob("models/standard_*/config.min.json")
    trained = json.loads(config.read_text())
    (window,) = parse_manifest(MANIFEST.read_text()).input
    assert isinstance(window, BytesInput)
    assert (window.head, window.tail) == (trained["beg_size"], trained["end_size"])
    assert (window.padding, window.block, window.strip) == (trained["padding_token"], trained["block_size"], True)
