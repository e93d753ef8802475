"""PMML's TreeModel, read. Pure.

Source: PMML 4.4, dmg.org (TreeModel: Node, ScoreDistribution, missingValueStrategy, noTrueChildStrategy).
"""

from collections.abc import Mapping
from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_fields import number
from converters.pmml_model import Node, Tree
from converters.pmml_predicates import in_its_type, tests_of

Element = ElementTree.Element


def read_tree(element: Element, kinds: Mapping[str, str]) -> Tree:
    """`kinds`: of the fields, as in_its_type() takes them. Raises RefusedError."""
    strategy = element.get("missingValueStrategy", "none")
    if strategy not in ("none", "defaultChild", "lastPrediction", "nullPrediction"):
        raise RefusedError(f"missingValueStrategy '{strategy}' is not converted: expected none or defaultChild")
    node = element.find("Node")
    if node is None:
        raise RefusedError("a TreeModel has no Node")
    if tests_of(node):
        raise RefusedError("a tree that holds for some rows alone is not converted")
    last = element.get("noTrueChildStrategy", "returnNullPrediction") == "returnLastPrediction"
    classifies = element.get("functionName") == "classification"
    root = _node(node, strategy, kinds)
    if not classifies:
        _refuse_unknown_scores(root)
    return Tree(root, classifies, last)


def _node(element: Element, strategy: str, kinds: Mapping[str, str]) -> Node:
    found = element.findall("Node")
    default = element.get("defaultChild")
    place = next((i for i, child in enumerate(found) if default is not None and child.get("id") == default), -1)
    found_shares = element.findall("ScoreDistribution")
    counted = "probability" if found_shares and all(d.get("probability") for d in found_shares) else "recordCount"
    shares = tuple((d.get("value", ""), number(d.get(counted, "0"), "ScoreDistribution")) for d in found_shares)
    children = tuple(_node(child, strategy, kinds) for child in found)
    unknown = {"nullPrediction": "null", "lastPrediction": "last"}.get(strategy, "next")
    if strategy == "defaultChild" and place >= 0:
        unknown = "default"
    tests = tuple(in_its_type(test, kinds) for test in tests_of(element))
    score = element.get("score", "") or (max(shares, key=lambda share: share[1])[0] if shares else "")
    return Node(tests, score, shares, children, place, unknown)


def _refuse_unknown_scores(root: Node) -> None:
    """Raises RefusedError where a leaf of a tree of numbers has none."""
    stack = [root]
    while stack:
        node = stack.pop()
        stack.extend(node.children)
        if node.score or not node.children:
            number(node.score, "score")
