"""scikit-learn's transformers that make new columns of all of a row's: linear maps, kernels' maps, norms; as ONNX in
double precision.

In the process of a conversion alone.
"""

from typing import Any

import numpy as np

from converters.converter import require
from converters.sklearn_distances import dense, kernel, number, of_length_one, products, squares, summed
from converters.sklearn_table import Block, Table

TINY = 10 * float(np.finfo(np.float64).eps)  # what sklearn.preprocessing takes for zero when it scales


def _mapped(table: Table, matrix: Any, mean: Any = None) -> Table:
    """(x - mean) times a matrix of [columns made, columns]."""
    x = table.matrix()
    if mean is not None:
        x = table.graph.node("Sub", x, number(table.graph, mean))
    return table.of(Block(products(table.graph, x, np.asarray(matrix, np.float64)), len(matrix)))


def _ica(part: Any, table: Table) -> Table:
    return _mapped(table, part.components_, part.mean_ if part.whiten else None)


def _factors(part: Any, table: Table) -> Table:
    weighted = part.components_ / part.noise_variance_
    inner = np.linalg.inv(np.eye(len(part.components_)) + weighted @ part.components_.T)
    return _mapped(table, inner.T @ weighted, part.mean_)


def _discriminants(part: Any, table: Table) -> Table:
    matrix = part.scalings_[:, : part._max_components].T
    return _mapped(table, matrix, part.xbar_ if part.solver == "svd" else None)


def _projection(part: Any, table: Table) -> Table:
    return _mapped(table, dense(part.components_))


def _agglomerated(part: Any, table: Table) -> Table:
    require(part.pooling_func is np.mean, "FeatureAgglomeration is converted with pooling_func=numpy.mean alone")
    members = part.labels_[None, :] == np.arange(part.n_clusters_)[:, None]
    return _mapped(table, members / members.sum(axis=1, keepdims=True))


def _nystroem(part: Any, table: Table) -> Table:
    settings = part._get_kernel_params()
    near = kernel(table.graph, table.matrix(), dense(part.components_), part.kernel, settings)
    matrix = np.asarray(part.normalization_, np.float64)
    return table.of(Block(products(table.graph, near, matrix), len(matrix)))


def _kernel_components(part: Any, table: Table) -> Table:
    graph, kept, centre = table.graph, dense(part.X_fit_), part._centerer
    settings = part.kernel_params or {"gamma": part.gamma_, "degree": part.degree, "coef0": part.coef0}
    near = kernel(graph, table.matrix(), kept, part.kernel, settings)
    mean = graph.node("Div", summed(graph, near), number(graph, float(len(kept))))
    centred = graph.node("Sub", graph.node("Sub", near, number(graph, centre.K_fit_rows_)), mean)
    centred = graph.node("Add", centred, number(graph, centre.K_fit_all_))
    with np.errstate(divide="ignore", invalid="ignore"):
        scaled = np.where(part.eigenvalues_ != 0, part.eigenvectors_ / np.sqrt(part.eigenvalues_), 0.0)
    return table.of(Block(products(graph, centred, scaled.T), scaled.shape[1]))


def _distances(part: Any, table: Table) -> Table:
    centres = np.asarray(part.cluster_centers_, np.float64)
    far = table.graph.node("Sqrt", squares(table.graph, table.matrix(), centres))
    return table.of(Block(far, len(centres)))


def _fourier(part: Any, table: Table) -> Table:
    graph = table.graph
    turned = graph.node("Add", products(graph, table.matrix(), part.random_weights_.T), number(
        graph, part.random_offset_ + np.pi / 2))  # fmt: skip
    # onnxruntime has no cosine of doubles.
    waves = graph.node("Mul", graph.node("Sin", turned), number(graph, (2.0 / part.n_components) ** 0.5))
    return table.of(Block(waves, part.n_components))


def _skewed(part: Any, table: Table) -> Table:
    graph = table.graph
    logs = graph.node("Log", graph.node("Add", table.matrix(), number(graph, part.skewedness)))
    turned = graph.node("Add", products(graph, logs, part.random_weights_.T), number(
        graph, part.random_offset_ + np.pi / 2))  # fmt: skip
    waves = graph.node("Mul", graph.node("Sin", turned), number(graph, (2.0 / part.n_components) ** 0.5))
    return table.of(Block(waves, part.n_components))


def _additive(part: Any, table: Table) -> Table:
    graph, x, zero = table.graph, table.matrix(), number(table.graph, 0.0)
    interval = part.sample_interval or {1: 0.8, 2: 0.5, 3: 0.4}[part.sample_steps]
    none = graph.node("Equal", x, zero)
    log = graph.node("Log", graph.node("Where", none, number(graph, 1.0), x))
    made = [graph.node("Sqrt", graph.node("Mul", x, number(graph, interval)))]
    for step in range(1, part.sample_steps):
        share = 2 * interval / np.cosh(np.pi * step * interval)
        size = graph.node("Sqrt", graph.node("Mul", x, number(graph, share)))
        for shift in (np.pi / 2, 0.0):  # the cosine, the sine
            angle = graph.node("Add", graph.node("Mul", log, number(graph, step * interval)), number(graph, shift))
            made.append(graph.node("Mul", size, graph.node("Sin", angle)))
    return table.of(*(Block(value, table.width) for value in made))


def _hidden(part: Any, table: Table) -> Table:
    graph, weights = table.graph, np.asarray(part.components_, np.float64)
    sums = graph.node("Add", products(graph, table.matrix(), weights), number(graph, part.intercept_hidden_))
    return table.of(Block(graph.node("Sigmoid", sums), len(weights)))


def _normalizer(part: Any, table: Table) -> Table:
    least = 0.0 if table.is_sparse else np.nextafter(TINY, 0.0)
    return table.of(Block(of_length_one(table.graph, table.matrix(), part.norm, least), table.width))


WRITERS = {
    "FastICA": _ica, "FactorAnalysis": _factors, "LinearDiscriminantAnalysis": _discriminants,
    "GaussianRandomProjection": _projection, "SparseRandomProjection": _projection,
    "FeatureAgglomeration": _agglomerated, "Nystroem": _nystroem, "RBFSampler": _fourier, "Normalizer": _normalizer,
    "KernelPCA": _kernel_components, "KMeans": _distances, "MiniBatchKMeans": _distances,
    "SkewedChi2Sampler": _skewed, "AdditiveChi2Sampler": _additive, "BernoulliRBM": _hidden,
}  # fmt: skip
