"""PMML, read into plain structures. Pure.

Of the standard: regressions (pmml_regressions.py), trees (pmml_trees.py), k-means (pmml_clusters.py), and ensembles and
chains of them. What else a document holds is refused by name, as is whatever would change the meaning of what is read.
Source: PMML 4.4, dmg.org (RegressionModel, TreeModel, MiningModel, ClusteringModel, MiningSchema).
"""

import re
from collections.abc import Callable
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_clusters import read_clusters
from converters.pmml_derived import Deriving, needed
from converters.pmml_fields import number, read_field, refuse_other_treatment
from converters.pmml_model import (
    Chain,
    Clusters,
    Document,
    Ensemble,
    Model,
    Regression,
    Step,
    Target,
    Test,
    walked,
)
from converters.pmml_predicates import in_its_type, tests_of
from converters.pmml_regressions import read_general_regression, read_regression
from converters.pmml_trees import read_tree

MAX_ELEMENTS = 5_000_000
Element = ElementTree.Element


_MODELS = ("TreeModel", "RegressionModel", "GeneralRegressionModel", "MiningModel", "ClusteringModel")
_OF_NUMBERS, _OF_CLASSES = ("sum", "weightedSum", "median"), ("majorityVote", "weightedMajorityVote")
_METHODS = ("average", "weightedAverage", "selectFirst", *_OF_NUMBERS, *_OF_CLASSES)
_KNOWN_ELSEWHERE = re.compile(r".*Model|Scorecard")


def read_pmml(text: bytes) -> Document:
    """Raises RefusedError where the document is damaged, or holds what is not read here."""
    if b"<!ENTITY" in text or b"<!DOCTYPE" in text:
        raise RefusedError("the document declares entities, which no model needs: take its DOCTYPE out")
    try:
        root = ElementTree.fromstring(text)  # noqa: S314
    except (ElementTree.ParseError, LookupError) as error:  # an encoding that is not known
        raise RefusedError(f"the document is no sound XML: {error}") from None
    for count, element in enumerate(root.iter()):
        if count > MAX_ELEMENTS:
            raise RefusedError(f"the document has more than {MAX_ELEMENTS} elements, more than can be converted")
        element.tag = element.tag.rpartition("}")[2]
    found = [child for child in root if _KNOWN_ELSEWHERE.fullmatch(child.tag)]
    if len(found) != 1 or found[0].tag not in _MODELS:
        names = ", ".join(child.tag for child in found) or "no model"
        raise RefusedError(f"the document holds {names}: expected one of {', '.join(_MODELS)}")
    return _Reader(root, found[0]).document()


class _Reader:
    def __init__(self, root: Element, model: Element) -> None:
        self._model = model
        self._dictionary = {field.get("name", ""): field for field in root.iter("DataField")}
        self._mining_fields = {field.get("name", ""): field for field in model.findall("MiningSchema/MiningField")}
        self._of_all = root.find("TransformationDictionary")
        self._deriving = Deriving({}, {})

    def document(self) -> Document:
        schema = self._model.find("MiningSchema")
        if schema is None:
            raise RefusedError("the model has no MiningSchema")
        used = [field for field in schema if field.get("usageType", "active") == "active"]
        names = [field.get("name", "") for field in used]
        if len(set(names)) != len(names):
            raise RefusedError("the MiningSchema has two fields of one name")
        target = next((f.get("name", "") for f in schema if f.get("usageType") in ("target", "predicted")), "")
        fields = tuple(read_field(field, self._dictionary.get(field.get("name", ""))) for field in used)
        self._deriving = Deriving(
            {f.get("name", ""): f for f in self._of_all.findall("DefineFunction")} if self._of_all is not None else {},
            {field.name: "text" if field.is_text else field.kind for field in fields},
        )
        self._derive(self._of_all)
        model = self.read(self._model)
        outputs = tuple(
            output.get("name", "")
            for output in self._model.findall("Output/OutputField")
            if output.get("feature") in ("transformedValue", "decision")
        )
        seen = _fields_within(model)
        derived = needed(tuple(self._deriving.derived.values()), seen)
        direct = frozenset(seen & {one.name for one in derived})
        seen |= {name for one in derived for name in one.of}
        fields = tuple(
            field if field.name in seen else field._replace(bounded=False, missing_is_invalid=False) for field in fields
        )
        if isinstance(model, Chain):
            model = model._replace(derived=derived)
        classes, told = self._classes(target, model), self._rescale(self._model)
        return Document(fields, model, classes, told, outputs, derived, direct)

    def _derive(self, transformations: Element | None) -> None:
        """Raises RefusedError where a field is derived in a way that is not converted."""
        for element in transformations.findall("DerivedField") if transformations is not None else ():
            self._deriving.add(element)

    def _rescale(self, element: Element) -> Target:
        targets = element.findall("Targets/Target")
        if not targets:
            return Target()
        if len(targets) > 1:
            raise RefusedError("a document with several targets is not converted: export a model for each")
        (target,) = targets
        values = target.findall("TargetValue")
        if any(value.get("priorProbability") for value in values):
            raise RefusedError("a target with prior probabilities is not converted: take them out of its TargetValues")
        default = next((value.get("defaultValue") for value in values if value.get("defaultValue")), None)
        words = {"min": "-inf", "max": "inf", "rescaleFactor": "1", "rescaleConstant": "0"}
        cast = target.get("castInteger", "")
        if cast not in ("", "round", "ceiling", "floor"):
            raise RefusedError(f"the target is cast by '{cast[:40]}', which is not known")
        low, high, factor, constant = (number(target.get(word) or usual, "Target") for word, usual in words.items())
        return Target(low, high, factor, constant, cast, number(default or "nan", "Target"))

    def _classes(self, target: str, model: Model) -> tuple[str, ...]:
        if isinstance(model, Clusters) or not model.classifies:
            return ()
        declared = self._dictionary.get(target)
        named = [value.get("value", "") for value in declared.iter("Value")] if declared is not None else []
        within = _classes_within(model)
        others = set(named) - set(within)
        if isinstance(model.last if isinstance(model, Chain) else model, Regression) and (
            len(set(within)) != len(within) or "" in within or (others and (len(within) > 1 or len(others) > 1))
        ):
            raise RefusedError("the regression has not one table for each class that the target's field lists")
        return tuple(dict.fromkeys([*named, *within]))

    def read(self, element: Element) -> Model:
        self._derive(element.find("LocalTransformations"))
        readers: dict[str, Callable[[Element], Model]] = {
            "TreeModel": lambda tree: read_tree(tree, self._deriving.kinds),
            "RegressionModel": lambda model: read_regression(model, self._derived_numbers()),
            "GeneralRegressionModel": self._general,
            "MiningModel": self._mining,
            "ClusteringModel": read_clusters,
        }
        if element.tag not in readers:
            raise RefusedError(
                f"{element.tag} within an ensemble is not converted: expected one of {', '.join(_MODELS)}"
            )
        return readers[element.tag](element)

    def _derived_numbers(self) -> set[str]:
        return {name for name, one in self._deriving.derived.items() if one.kind != "text"}

    def _general(self, element: Element) -> Regression:
        values = {
            name: tuple(value.get("value", "") for value in field.iter("Value"))
            for name, field in self._dictionary.items()
        }
        return read_general_regression(element, self._derived_numbers(), values)

    def _mining(self, element: Element) -> Model:
        segmentation = element.find("Segmentation")
        is_chain = segmentation is not None and segmentation.get("multipleModelMethod") == "modelChain"
        return self._chain(element) if is_chain else self._ensemble(element)

    def _ensemble(self, element: Element) -> Ensemble:
        segmentation = element.find("Segmentation")
        method = segmentation.get("multipleModelMethod", "") if segmentation is not None else ""
        if method not in _METHODS:
            raise RefusedError(
                f"an ensemble by '{method[:40]}' is not converted: export its models one by one, or use one of "
                f"{', '.join(_METHODS)}"
            )
        classifies = element.get("functionName") == "classification"
        if method in (_OF_NUMBERS if classifies else _OF_CLASSES):
            raise RefusedError(f"an ensemble by '{method}' is not one of what its functionName says")
        treatment = segmentation.get("missingPredictionTreatment", "continue") if segmentation is not None else ""
        if treatment not in ("continue", "returnMissing") or (treatment == "returnMissing" and "Vote" in method):
            raise RefusedError(f"an ensemble with missingPredictionTreatment '{treatment[:40]}' is not converted")
        members: list[Model] = []
        weights = []
        tests = []
        for segment, inner in _segments(segmentation):
            tests.append(tuple(in_its_type(test, self._deriving.kinds) for test in tests_of(segment)))
            members.append(self._member(inner, classifies=classifies))
            weights.append(number(segment.get("weight", "1"), "Segment"))
        if not members:
            raise RefusedError("an ensemble has no Segment")
        if not any(tests) and method != "selectFirst":
            tests = []
        if tests and (method == "median" or "Vote" in method):
            raise RefusedError(f"segments for some rows alone are not converted in an ensemble by '{method}'")
        return Ensemble(method, tuple(members), tuple(weights), classifies, tuple(tests))

    def _chain(self, element: Element) -> Chain:
        segmentation = element.find("Segmentation")
        if element is not self._model:
            raise RefusedError("a modelChain within another model is not converted")
        if segmentation is not None and segmentation.get("missingPredictionTreatment") == "skipSegment":
            raise RefusedError("a modelChain with missingPredictionTreatment 'skipSegment' is not converted")
        found_segments = _segments(segmentation)
        if any(tests_of(segment) for segment, _ in found_segments):
            raise RefusedError("a modelChain with a segment for some rows alone is not converted: use selectFirst")
        inners = [inner for _, inner in found_segments]
        if not inners:
            raise RefusedError("a modelChain has no Segment")
        steps: list[Step] = []
        for inner in inners[:-1]:
            found = self._steps(inner)
            self._deriving.kinds.update({step.name: "double" for step in found})
            steps += found
        names = [step.name for step in steps]
        if len(set(names)) != len(names) or set(names) & {*self._dictionary, *self._deriving.derived}:
            raise RefusedError("models of a modelChain give what they find under a name that is taken")
        classifies = element.get("functionName") == "classification"
        return Chain(tuple(steps), self._member(inners[-1], classifies=classifies), classifies)

    def _steps(self, inner: Element) -> list[Step]:
        """What the model of a chain gives to those after it."""
        found = []
        for output in inner.findall("Output/OutputField"):
            name, feature, label = output.get("name", ""), output.get("feature", "predictedValue"), output.get("value")
            number = feature == "predictedValue" and inner.get("functionName") == "regression"
            if not (number or (feature == "probability" and inner.tag == "RegressionModel" and label)):
                raise RefusedError(
                    f"a modelChain hands on '{name[:60]}' ({feature[:40]}), which is not converted: expected a number "
                    "or a probability; convert the model's own file, which its library saves, in place of the document"
                )
            refuse_other_treatment(inner.find("MiningSchema"), self._mining_fields)
            model = self.read(inner)
            classes = () if number else tuple(_classes_within(model))
            if not number and (len(classes) < 2 or len(set(classes)) != len(classes) or label not in classes):
                raise RefusedError("a regression of a modelChain has not one table for each of its classes")
            found.append(Step(name, model, self._rescale(inner), classes, "" if number else str(label)))
        return found

    def _member(self, inner: Element, *, classifies: bool) -> Model:
        if inner.find("Targets") is not None and self._rescale(inner) != Target():
            raise RefusedError("a model within an ensemble rescales its own target, which is not converted")
        refuse_other_treatment(inner.find("MiningSchema"), self._mining_fields)
        model = self.read(inner)
        if isinstance(model, Clusters) or model.classifies != classifies:
            raise RefusedError("an ensemble of models of another functionName than its own is not converted")
        return model


def _segments(segmentation: Element | None) -> list[tuple[Element, Element]]:
    """Each segment and its model."""
    found = []
    for segment in segmentation.findall("Segment") if segmentation is not None else ():
        inner = next((c for c in segment if c.tag == "Scorecard" or _KNOWN_ELSEWHERE.fullmatch(c.tag)), None)
        if inner is None:
            raise RefusedError("a segment has no model of its own")
        found.append((segment, inner))
    return found


def _classes_within(model: Model) -> list[str]:
    if isinstance(model, Regression):
        return [equation.target for equation in model.equations]
    if isinstance(model, Ensemble):
        return [name for member in model.members for name in _classes_within(member)]
    if isinstance(model, Clusters):
        return []
    if isinstance(model, Chain):
        return _classes_within(model.last)
    found: dict[str, None] = {}
    stack = [model.root]
    while stack:
        node = stack.pop()
        found.update(
            {name: None for name, _ in node.shares} or ({node.score: None} if node.score and not node.children else {})
        )
        stack.extend(node.children)
    return list(found)


def _fields_within(model: Model) -> set[str]:
    """The fields that the model looks at: what is invalid elsewhere is of no account."""
    found: set[str] = set()
    for item in walked(model):
        if isinstance(item, Clusters):
            found |= set(item.fields)
        elif isinstance(item, Regression):
            for equation in item.equations:
                found |= {name for name, *_ in (*equation.numbers, *equation.categories)} | set(equation.needed)
                found |= {name for factors, _ in equation.products for name, *_ in factors}
        elif isinstance(item, Test):
            found.add(item.field)
    return found
