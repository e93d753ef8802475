"""General regression in PMML answers as its formula says; what would change the formula is refused."""

from pathlib import Path

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import pmml_file
from converters.frameworks.pmml import CONVERTER
from converters.session import Session
from tests.converters.converting import compared, conversion

DOCUMENT = """<?xml version="1.0"?>
<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4">
 <Header/>
 <DataDictionary numberOfFields="3">
  <DataField name="y" optype="{optype}" dataType="string">{classes}</DataField>
  <DataField name="age" optype="continuous" dataType="double"/>
  <DataField name="sex" optype="categorical" dataType="string"><Value value="f"/><Value value="m"/></DataField>
 </DataDictionary>
 <GeneralRegressionModel modelType="{kind}" functionName="{function}" {more}>
  <MiningSchema>
   <MiningField name="y" usageType="predicted"/><MiningField name="age"/><MiningField name="sex"/>
  </MiningSchema>
  <ParameterList>
   <Parameter name="p0" label="(Intercept)"/><Parameter name="p1" label="age"/>
   <Parameter name="p2" label="I(age^2)"/><Parameter name="p3" label="sexm"/>
  </ParameterList>
  <FactorList><Predictor name="sex"/></FactorList>
  <CovariateList><Predictor name="age"/></CovariateList>
  <PPMatrix>
   <PPCell value="1" predictorName="age" parameterName="p1"/>
   <PPCell value="2" predictorName="age" parameterName="p2"/>
   <PPCell value="m" predictorName="sex" parameterName="p3"/>
  </PPMatrix>
  <ParamMatrix>{cells}</ParamMatrix>
 </GeneralRegressionModel>
</PMML>
"""
BETAS = {"": (0.3, -0.8, 0.25, 0.6), "b": (-0.2, 0.4, 0.1, -0.5), "c": (0.1, 0.2, -0.3, 0.7)}
AGES, SEXES = np.array([[0.5], [-1.5], [2.0], [0.0]]), np.array([["m"], ["f"], ["m"], ["f"]], object)


def document(kind: str, *targets: str, classes: str = "", more: str = "") -> str:
    cells = [
        f'<PCell targetCategory="{target}" parameterName="p{index}" df="1" beta="{beta}"/>'
        for target in targets
        for index, beta in enumerate(BETAS[target])
    ]
    return DOCUMENT.format(
        kind=kind, more=more, cells="".join(cells), optype="categorical" if classes else "continuous",
        function="classification" if classes else "regression",
        classes="".join(f'<Value value="{name}"/>' for name in classes),
    )  # fmt: skip


def linear(target: str) -> np.ndarray:
    p0, p1, p2, p3 = BETAS[target]
    return (p0 + p1 * AGES + p2 * AGES**2 + p3 * (SEXES == "m")).ravel()


def answers(text: str, folder: Path, family: str) -> dict[str, np.ndarray]:
    (folder / "model.pmml").write_text(text)
    made = conversion(CONVERTER, folder / "model.pmml", "pmml", folder / "to")
    assert compared(made, CONVERTER, family).within
    return Session(made.model).run({"age": AGES, "sex": SEXES})


@pytest.mark.parametrize(
    ("kind", "more", "function"),
    [
        ("generalLinear", "", lambda x: x),
        ("generalizedLinear", 'linkFunction="log" distribution="poisson"', np.exp),
        ("generalizedLinear", 'linkFunction="logit" distribution="binomial"', lambda x: 1 / (1 + np.exp(-x))),
        ("generalizedLinear", 'linkFunction="identity" offsetValue="2"', lambda x: x + 2),
    ],
)
def test_a_number_is_what_the_link_makes_of_the_sum(kind: str, more: str, function: object, tmp_path: Path) -> None:
    found = answers(document(kind, "", more=more), tmp_path, f"general regression: {kind} {more}".strip())
    assert found["value"] == pytest.approx(function(linear("")))  # type: ignore[operator]


def test_of_two_classes_the_probability_is_that_of_the_one_that_is_no_reference(tmp_path: Path) -> None:
    more = 'linkFunction="logit" targetReferenceCategory="n"'
    text = document("generalizedLinear", "", classes="ny", more=more)
    found = answers(text, tmp_path, "general regression: two classes")
    assert found["probabilities"][:, 1] == pytest.approx(1 / (1 + np.exp(-linear(""))))
    assert found["label"].tolist() == ["ny"[int(row[1] > row[0])] for row in found["probabilities"]]


def test_of_several_classes_the_one_without_coefficients_has_nothing(tmp_path: Path) -> None:
    text = document("multinomialLogistic", "b", "c", classes="abc")
    found = answers(text, tmp_path, "general regression: three classes")
    shares = np.exp(np.stack([np.zeros(4), linear("b"), linear("c")], 1))
    assert found["probabilities"] == pytest.approx(shares / shares.sum(1, keepdims=True))


def test_a_factor_that_is_missing_leaves_no_answer(tmp_path: Path) -> None:
    (tmp_path / "model.pmml").write_text(document("generalLinear", ""))
    made = conversion(CONVERTER, tmp_path / "model.pmml", "pmml", tmp_path / "to")
    feed = {"age": np.array([[1.0], [np.nan], [1.0]]), "sex": np.array([[""], ["m"], ["m"]], object)}
    assert np.isnan(Session(made.model).run(feed)["value"]).tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('modelType="generalLinear"', 'modelType="CoxRegression"', "type 'CoxRegression' is not converted"),
        ('modelType="generalLinear"', 'modelType="generalLinear" offsetVariable="age"', "offsetVariable"),
        ('parameterName="p2"/>', 'parameterName="p1"/>', "field .age. twice"),
        ('value="2"', 'value="two"', "is no number"),
        ('modelType="generalLinear"', 'modelType="generalizedLinear" linkFunction="probit"', "link 'probit'"),
        ('<Parameter name="p0" label="(Intercept)"/>', "", "'p0' is not in the ParameterList"),
        ('<FactorList><Predictor name="sex"/>', '<FactorList><Predictor name="sex"><Matrix/></Predictor>', "contrasts"),
    ],
)
def test_what_would_change_the_formula_is_refused(old: str, new: str, match: str) -> None:
    text = document("generalLinear", "")
    assert old in text
    with pytest.raises(RefusedError, match=match):
        pmml_file.read_pmml(text.replace(old, new).encode())
