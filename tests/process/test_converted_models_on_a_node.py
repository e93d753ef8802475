"""Models of other formats, as bundles on a real node: called with a row whose values have the names of columns."""

import json
from pathlib import Path

import pytest
import requests
import tomli_w

from tests.conftest import RunningNode
from tests.process.conftest import Ingle

ORIGINALS = Path(__file__).parents[1] / "converters" / "originals"
KINDS = ("setosa", "versicolor", "virginica")
COLUMNS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")


def answers_as(node: RunningNode, name: str, row: dict[str, float], probabilities: list[float]) -> None:
    """That a plain call with this row gives every kind its probability, the likeliest first."""
    answer = requests.post(f"{node.url}/v1/models/{name}", json=row, headers=node.headers, timeout=60)
    assert answer.status_code == 200, answer.text
    ((first, *others),) = answer.json()["labels"]
    assert first["label"] == KINDS[probabilities.index(max(probabilities))]
    scores = {each["label"]: each["score"] for each in (first, *others)}
    assert scores == pytest.approx(dict(zip(KINDS, probabilities, strict=True)), abs=1e-6)


def test_a_converted_bundle_is_signed_deployed_and_answers_named_rows_as_the_original(
    ingle: Ingle, node: RunningNode, tmp_path: Path
) -> None:
    bundle, signed, key = tmp_path / "iris.ingle", tmp_path / "signed.ingle", tmp_path / "key.pem"
    assert ingle("convert", ORIGINALS / "logistic.pmml", "-o", bundle).status == 0
    assert ingle("pack", "--new-key", key).status == 0
    assert ingle("pack", bundle, "-o", signed, "--sign", key).status == 0
    deployed = ingle("deploy", signed, "--name", "converted/iris")
    assert deployed.status == 0, deployed.err
    said = json.loads((ORIGINALS / "pmml.json").read_text())["logistic"]
    for at in (0, 8, 16):
        row = {column: said["rows"][column][at] for column in reversed(COLUMNS)}
        answers_as(node, "converted/iris", row, said["probabilities"][at])


def test_columns_that_the_owner_declares_are_in_the_bundle_of_what_is_converted(
    ingle: Ingle, node: RunningNode, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.toml"
    table = {"labels": KINDS, "input": [{"name": "x", "as": "columns", "columns": COLUMNS}]}
    manifest.write_text(tomli_w.dumps(table))
    source = ORIGINALS / "c_svc_rbf.svm"
    deployed = ingle("deploy", source, "--name", "converted/machine", "--manifest", manifest)
    assert deployed.status == 0, deployed.err
    said = json.loads((ORIGINALS / "libsvm.json").read_text())["c_svc_rbf"]
    for at in (0, 5, 9):
        row = dict(reversed(list(zip(COLUMNS, said["rows"][at], strict=True))))
        answers_as(node, "converted/machine", row, said["probabilities"][at])
