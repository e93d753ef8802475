"""Two boxes with nothing but the one file find each other, and one answers for the other's model."""

from pathlib import Path

import pytest

from appliance.workers.tiny_model import IDENTITY_MODEL
from tests.mesh.lan import Lan
from tests.mesh.meshes import Mesh, until
from tests.mesh.namespaces import why_not


def test_two_of_them_make_one_computer(one_file: Path, tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(f"no LAN can be made here: {reason}")
    with Lan() as lan, Mesh(lan, tmp_path, program=(str(one_file),)) as mesh:
        a, b = mesh.start("a", "b")
        mesh.wait_all_see_all()
        b.deploy("local/same", IDENTITY_MODEL)
        until(lambda: a.call("local/same", {"x": [0.5]}).status == 200, "a knows b's model")
        answer = a.call("local/same", {"x": [0.5]})
        assert answer.json["outputs"] == {"y": [0.5]}
        assert answer.headers["x-ingle-node"] == "b"
