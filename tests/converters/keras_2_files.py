"""HDF5 files as Keras 2 wrote them, by hand, and what it answered, by its own definitions in numpy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Weights = dict[str, dict[str, Numbers]]  # by layer, then by the weight's own name

INITIAL = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "normal"}}


def written(
    path: Path, config: Any, weights: Weights, *, version: str = "2.3.1", backend: str = "tensorflow",
    order: tuple[str, ...] = (),
) -> Path:  # fmt: skip
    """`version` "": the file does not say. `order`: of the weights' layers, where it is another than `weights`'."""
    import h5py

    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        for said in (file.attrs, group.attrs):
            said["backend"] = backend.encode()
            if version:
                said["keras_version"] = version.encode()
        file.attrs["model_config"] = json.dumps(config).encode()
        group.attrs["layer_names"] = [name.encode() for name in order or weights]
        for layer, arrays in weights.items():
            inner = group.create_group(layer)
            names = [name if "/" in name else f"{layer}/{name}:0" for name in arrays]
            inner.attrs["weight_names"] = [name.encode() for name in names]
            for name, array in zip(names, arrays.values(), strict=True):
                inner[name] = array.astype(np.float32)
    return path


def row(*layers: tuple[str, dict[str, Any]], as_list: bool = False) -> dict[str, Any]:
    """A Sequential; before 2.2.3 it was written as a list of its layers."""
    made = [{"class_name": kind, "config": own} for kind, own in layers]
    return {"class_name": "Sequential", "config": made if as_list else {"name": "row", "layers": made}}


def graph(
    name: str, inputs: list[str], outputs: list[list[Any]], *layers: tuple[str, dict[str, Any], list[Any]]
) -> Any:
    """A Model; of each layer its class, its configuration and what it is called with."""
    made = [{"class_name": k, "config": own, "name": own["name"], "inbound_nodes": calls} for k, own, calls in layers]
    own = {"name": name, "layers": made, "input_layers": [[x, 0, 0] for x in inputs], "output_layers": outputs}
    return {"class_name": "Model", "config": own}


def dense(name: str, units: int, **more: Any) -> tuple[str, dict[str, Any]]:
    own = {"name": name, "trainable": True, "units": units, "activation": "linear", "use_bias": True}
    return "Dense", {**own, "kernel_initializer": INITIAL, "kernel_regularizer": None, "bias_constraint": None, **more}


def recurrent(kind: str, units: int, **more: Any) -> tuple[str, dict[str, Any]]:
    """A first layer; its recurrent activation is the default that Keras 2 had, and wrote."""
    own = {"name": "recurrent", "trainable": True, "batch_input_shape": [None, 6, 4], "dtype": "float32"}
    own |= {"return_sequences": False, "return_state": False, "go_backwards": False, "stateful": False, "unroll": False}
    own |= {"units": units, "activation": "tanh", "recurrent_activation": "hard_sigmoid", "use_bias": True}
    return kind, {**own, "recurrent_initializer": INITIAL, "dropout": 0.0, "recurrent_dropout": 0.0, **more}


def hard_sigmoid(x: Numbers) -> Numbers:
    return np.clip(0.2 * x + 0.5, 0.0, 1.0)


def lstm(x: Numbers, kernel: Numbers, recurrent_kernel: Numbers, bias: Numbers) -> Numbers:
    """The last state."""
    h = c = np.zeros((len(x), len(recurrent_kernel)))
    for step in range(x.shape[1]):
        i, f, g, o = np.split(x[:, step] @ kernel + h @ recurrent_kernel + bias, 4, axis=1)
        c = hard_sigmoid(f) * c + hard_sigmoid(i) * np.tanh(g)
        h = hard_sigmoid(o) * np.tanh(c)
    return h


def gru(x: Numbers, kernel: Numbers, recurrent_kernel: Numbers) -> Numbers:
    """The last state, by the definition before there was `reset_after`."""
    h = np.zeros((len(x), len(recurrent_kernel)))
    for step in range(x.shape[1]):
        z, r, g = np.split(x[:, step] @ kernel, 3, axis=1)
        of_z, of_r, of_g = np.split(recurrent_kernel, 3, axis=1)
        z, r = hard_sigmoid(z + h @ of_z), hard_sigmoid(r + h @ of_r)
        h = z * h + (1 - z) * np.tanh(g + (r * h) @ of_g)
    return h
