"""PMML's clusters of centres, read. Pure.

Source: PMML 4.4, dmg.org (ClusteringModel).
"""

from xml.etree import ElementTree

from appliance.core.errors import RefusedError
from converters.pmml_fields import number
from converters.pmml_model import Clusters

Element = ElementTree.Element


def read_clusters(element: Element) -> Clusters:
    """Raises RefusedError where they compare in another way than is known here."""
    measure = element.find("ComparisonMeasure")
    kind = measure[0].tag if measure is not None and len(measure) else ""
    if kind not in ("squaredEuclidean", "euclidean", "cityBlock") or element.get("modelClass") != "centerBased":
        raise RefusedError(f"clusters by '{kind}' are not converted: expected centres, euclidean or cityBlock")
    if measure is not None and measure.get("compareFunction", "absDiff") != "absDiff":
        raise RefusedError("clusters that compare in another way than by differences are not converted")
    fields = element.findall("ClusteringField")
    if any(field.get("compareFunction", "absDiff") != "absDiff" for field in fields):
        raise RefusedError("clusters that compare a field in another way than by differences are not converted")
    if any(field.get("isCenterField", "true") != "true" for field in fields):
        raise RefusedError("clusters with fields that are not of their centres are not converted: take them out")
    if element.find("MissingValueWeights") is not None:
        raise RefusedError("clusters with MissingValueWeights are not converted: take them out")
    clusters = element.findall("Cluster")
    centers = tuple(
        tuple(number(text, "Array") for text in (cluster.findtext("Array") or "").split()) for cluster in clusters
    )
    names = tuple(cluster.get("id") or str(index) for index, cluster in enumerate(clusters, 1))
    if not centers or any(len(center) != len(fields) for center in centers):
        raise RefusedError("the clusters' centres do not go with the fields")
    weights = tuple(number(field.get("fieldWeight", "1"), "fieldWeight") for field in fields)
    return Clusters(kind, tuple(field.get("field", "") for field in fields), weights, names, centers)
