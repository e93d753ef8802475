"""The readers of this house against the originals: `originals/` holds model files that LibSVM and JPMML's exporter of
scikit-learn wrote, and what LibSVM and scikit-learn themselves answered."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import glm_file, pmml_file, svm_file
from converters.converter import Conversion, Converter
from converters.detection import detect
from converters.frameworks.glm import CONVERTER as GLM
from converters.frameworks.libsvm import CONVERTER as LIBSVM
from converters.frameworks.pmml import CONVERTER as PMML
from converters.session import Session
from tests.converters.converting import compared, conversion

ORIGINALS = Path(__file__).with_name("originals")
SVMS: dict[str, Any] = json.loads((ORIGINALS / "libsvm.json").read_text())
DOCUMENTS: dict[str, Any] = json.loads((ORIGINALS / "pmml.json").read_text())
GLM_TABLE = {
    "family": "binomial",
    "coefficients": {"(Intercept)": -1.0, "age": 0.5, "sexmale": 0.25, "age:sexmale": -0.125, "I(age^2)": 0.01},
    "factors": {"sex": ["female", "male"]},
}


def converted(converter: Converter, source: Path, folder: Path, family: str) -> tuple[Conversion, Session]:
    """The conversion, compared with its own reading of the original, and a session on it."""
    detected = detect(source)
    assert detected.format in converter.formats
    made = conversion(converter, source, detected.format, folder)
    assert compared(made, converter, family, rows=48).within
    return made, Session(made.model)


@pytest.mark.parametrize("name", SVMS)
def test_a_support_vector_machine_answers_as_libsvm_does(name: str, tmp_path: Path) -> None:
    said = SVMS[name]
    _, session = converted(LIBSVM, ORIGINALS / f"{name}.svm", tmp_path, name)
    answer = session.run({"x": np.array(said["rows"])})
    if "value" in answer:
        np.testing.assert_allclose(answer["value"], said["label"], rtol=1e-10)
        return
    assert answer["label"].tolist() == said["label"]
    np.testing.assert_allclose(answer["decision"], said["decision"], atol=1e-10)
    assert ("probabilities" in answer) == ("probabilities" in said)
    if "probabilities" in said:
        np.testing.assert_allclose(answer["probabilities"], said["probabilities"], atol=1e-10)


def test_liblinear_with_a_bias_answers_by_its_formula(tmp_path: Path) -> None:
    (tmp_path / "m").write_text(
        "solver_type L2R_LR\nnr_class 2\nlabel 7 -3\nnr_feature 2\nbias 1\nw\n0.5 \n-1 \n0.25 \n"
    )
    _, session = converted(LIBSVM, tmp_path / "m", tmp_path, "logistic regression of LIBLINEAR, bias")
    answer = session.run({"x": np.array([[1.0, 0.0], [0.0, 1.0]])})
    assert answer["label"].tolist() == [7, -3]
    np.testing.assert_allclose(answer["probabilities"][:, 0], 1 / (1 + np.exp([-0.75, 0.75])), rtol=1e-14)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_pmml_document_answers_as_the_model_it_was_made_of(name: str, tmp_path: Path) -> None:
    said = DOCUMENTS[name]
    _, session = converted(PMML, ORIGINALS / f"{name}.pmml", tmp_path, name)
    answer = session.run({spec.name: np.array(said["rows"][spec.name])[:, None] for spec in session.signature.inputs})
    if said["probabilities"] is None:
        np.testing.assert_allclose(answer["value"], said["value"], rtol=1e-6)
    else:
        assert answer["label"].tolist() == said["value"]
        np.testing.assert_allclose(answer["probabilities"], said["probabilities"], atol=1e-6)


def test_a_glm_answers_by_its_formula_and_not_for_a_level_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(GLM_TABLE))
    (tmp_path / "m.csv").write_text(
        "# glm family=binomial link=logit\n# factor sex: female, male\nterm,estimate\n"
        + "".join(f"{term},{value}\n" for term, value in GLM_TABLE["coefficients"].items())  # type: ignore[attr-defined]
    )
    age, sex = np.array([[30.0], [30.0], [30.0]]), np.array([["female"], ["male"], ["other"]], object)
    eta = np.array([[-1 + 15 + 9], [-1 + 15 + 0.25 - 3.75 + 9], [np.nan]])
    for name in ("m.json", "m.csv"):
        _, session = converted(GLM, tmp_path / name, tmp_path, f"binomial, logit, interactions, {name[2:]}")
        answer = session.run({"age": age, "sex": sex})
        np.testing.assert_allclose(answer["link"], eta, rtol=1e-14)
        np.testing.assert_allclose(answer["response"], 1 / (1 + np.exp(-eta)), rtol=1e-14)


@pytest.mark.parametrize("link", glm_file.LINKS)
def test_every_link_is_the_same_in_the_graph(link: str, tmp_path: Path) -> None:
    (tmp_path / "m").write_text(json.dumps({**GLM_TABLE, "link": link}))
    converted(GLM, tmp_path / "m", tmp_path, f"binomial, {link}")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"coefficients": {"bs(age, 3)1": 1.0}}, "is not understood"),
        ({"coefficients": {"sexother": "1"}}, "is no number"),
        ({"coefficients": {}}, "expected 'coefficients'"),
        ({"link": "odd"}, "is not known"),
    ],
)
def test_a_glm_that_is_not_understood_is_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence):
        glm_file.read_glm(json.dumps({**GLM_TABLE, **change}))


def test_files_that_are_cut_short_are_refused() -> None:
    for name in ("c_svc_rbf.svm", "forest.pmml"):
        text = (ORIGINALS / name).read_text()
        for size in range(40, len(text) - 300, 1024):
            with pytest.raises(RefusedError):
                pmml_file.read_pmml(text[:size].encode()) if "pmml" in name else svm_file.read_svm(text[:size])


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("gamma ", "gamme ", "does not say the gamma of its kernel 'rbf'"),
        ("gamma ", "gamma nan ", "'gamma' of the file is not finite"),
        ("label ", "label 0.5 ", "no integers"),
        ("probA ", "probA 1 ", "not one for each pair"),
        ("\nSV\n0.", "\nSV\nnan 0.", "cannot be read"),
        (" 1:5.4", " 1:inf", "what is not finite"),
    ],
)
def test_a_damaged_machine_is_refused(old: str, new: str, match: str) -> None:
    text = (ORIGINALS / "c_svc_rbf.svm").read_text()
    assert old in text
    with pytest.raises(RefusedError, match=match):
        svm_file.read_svm(text.replace(old, new, 1))


def test_what_a_document_has_that_is_not_read_is_refused_by_name() -> None:
    text = (ORIGINALS / "forest.pmml").read_text()
    for old, new, sentence in (
        ('multipleModelMethod="average"', 'multipleModelMethod="selectAll"', "selectAll"),
        ('missingValueStrategy="nullPrediction"', 'missingValueStrategy="weightedConfidence"', "weightedConfidence"),
        ("<MiningModel", "<!DOCTYPE x><MiningModel", "entities"),
        ("MiningModel", "NeuralNetworkModel", "NeuralNetworkModel"),
    ):
        assert old in text
        with pytest.raises(RefusedError, match=sentence):
            pmml_file.read_pmml(text.replace(old, new).encode())
