"""Which models of a PMML ensemble count for a row, and what is made of them. The JPMML evaluator says the same."""

from pathlib import Path

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import pmml_file
from tests.converters.test_pmml_documents import (
    CLASSES,
    IS_A,
    LESS,
    NAN,
    SHARES,
    answers,
    classifying,
    document,
    ensemble,
    handing_on,
    tree,
)

TWICE = (
    '<RegressionModel functionName="regression">SCHEMA<RegressionTable intercept="0">'
    '<NumericPredictor name="x" coefficient="2"/></RegressionTable></RegressionModel>'
)
ALWAYS, Z = "<True/>", '<SimplePredicate field="z" operator="greaterThan" value="0"/>'
FIVE = tree(LESS, scores="55")


def for_some(method: str, *segments: tuple[str, str, float], function: str = "regression") -> str:
    return document(
        f'<MiningModel functionName="{function}">SCHEMA<Segmentation multipleModelMethod="{method}">'
        + "".join(f'<Segment weight="{weight}">{test}{model}</Segment>' for test, model, weight in segments)
        + "</Segmentation></MiningModel>",
        y=CLASSES if function == "classification" else '<DataField name="y" optype="continuous" dataType="double"/>',
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # x < 1 counts for the first row, c = a for the first two, none for the third; the fourth knows nothing
        ("selectFirst", [0, 5, NAN, NAN]),
        ("sum", [5, 5, NAN, NAN]),
        ("average", [2.5, 5, NAN, NAN]),
        ("weightedAverage", [3.75, 5, NAN, NAN]),
        ("weightedSum", [15, 15, NAN, NAN]),
    ],
)
def test_a_segment_counts_where_its_predicate_holds(method: str, expected: list[float], tmp_path: Path) -> None:
    text = for_some(method, (LESS, TWICE, 1), (IS_A, FIVE, 3))
    found = answers(text, tmp_path, [0.0, 2.0, 2.0, NAN], ["a", "a", "b", ""])
    assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)


def test_the_first_model_that_counts_says_the_label_too(tmp_path: Path) -> None:
    """A tree's label is its node's score, which its distribution need not be."""
    odd, even = classifying("v", SHARES.format(3, "", 1, "")), classifying("u", SHARES.format(1, "", 3, ""))
    text = for_some("selectFirst", (IS_A, odd, 1), (ALWAYS, even, 1), function="classification")
    found = answers(text, tmp_path, [0.0, 0.0, 0.0], ["a", "b", ""])
    assert found["label"].tolist() == ["v", "u", "u"]
    assert found["probabilities"][:, 0] == pytest.approx([0.75, 0.25, 0.25])


@pytest.mark.parametrize(("more", "expected"), [((), [0.0, 4.0, NAN]), ((FIVE,), [0.5, 4.5, NAN])])
def test_a_median_is_that_of_all_models(more: tuple[str, ...], expected: list[float], tmp_path: Path) -> None:
    text = document(ensemble("median", TWICE, tree(LESS), tree(LESS, scores="09"), *more))
    found = answers(text, tmp_path, [0.0, 2.0, NAN], ["a"] * 3)
    assert found["value"].tolist() == pytest.approx(expected, nan_ok=True)


def test_a_chain_that_ends_in_a_tree_has_the_label_of_its_node(tmp_path: Path) -> None:
    first = handing_on(FIVE, "s", "predictedValue")
    text = document(
        ensemble("modelChain", first, classifying("v", SHARES.format(3, "", 1, "")), function="classification"),
        y=CLASSES,
    )
    found = answers(text, tmp_path, [0.0], ["a"])
    assert found["label"].tolist() == ["v"]
    assert np.argmax(found["probabilities"][0]) == 0


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (for_some("selectAll", (ALWAYS, FIVE, 1)), "'selectAll' is not converted: export its models one by one"),
        (for_some("max", (ALWAYS, FIVE, 1)), "'max' is not converted"),
        (for_some("median", (LESS, FIVE, 1)), "for some rows alone are not converted in an ensemble by 'median'"),
        (for_some("modelChain", (LESS, handing_on(FIVE, "s", "predictedValue"), 1), (ALWAYS, FIVE, 1)), "selectFirst"),
        (for_some("sum", ("", FIVE, 1)), "a Segment has no predicate"),
    ],
)
def test_ensembles_of_another_kind_are_refused(text: str, match: str) -> None:
    with pytest.raises(RefusedError, match=match):
        pmml_file.read_pmml(text.encode())
