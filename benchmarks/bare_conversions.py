"""Models and their conversion by the bare library, as its documentation says: what conversion_costs.py compares with.

    python -m benchmarks.bare_conversions make|bare NAME MODEL [TARGET]

Each runs in a process of its own, in the framework's environment, and imports nothing of this house.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

JAX_CODE = """
import jax
import jax.numpy as jnp
from flax import nnx

class Net(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Linear(64, 256, rngs=rngs), nnx.Linear(256, 256, rngs=rngs)
        self.out = nnx.Linear(256, 10, rngs=rngs)

    def __call__(self, x):
        return nnx.softmax(self.out(nnx.relu(self.second(nnx.relu(self.first(x))))))

def make():
    return Net(nnx.Rngs(0))
"""


def _digits() -> tuple[Any, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    rows = random.normal(size=(1500, 64)).astype(np.float32)
    return rows, (rows[:, :8].sum(axis=1) > 0).astype(int) + (rows[:, 8:16].sum(axis=1) > 0)


def make_sklearn(model: Path) -> None:
    import skops.io
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = make_pipeline(StandardScaler(), RandomForestClassifier(100, random_state=0)).fit(*_digits())
    skops.io.dump(made, model)


def bare_sklearn(model: Path, target: Path) -> None:
    import skops.io
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    loaded = skops.io.load(model, trusted=skops.io.get_untrusted_types(file=model))
    made = to_onnx(loaded, initial_types=[("x", FloatTensorType([None, 64]))], options={"zipmap": False})
    target.write_bytes(made.SerializeToString())


def make_xgboost(model: Path) -> None:
    import xgboost

    xgboost.XGBClassifier(n_estimators=150, max_depth=6).fit(*_digits()).save_model(model)


def bare_xgboost(model: Path, target: Path) -> None:
    import xgboost
    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    loaded = xgboost.XGBClassifier()
    loaded.load_model(model)
    made = convert_xgboost(loaded, initial_types=[("x", FloatTensorType([None, 64]))], target_opset=15)
    target.write_bytes(made.SerializeToString())


def make_lightgbm(model: Path) -> None:
    import lightgbm

    lightgbm.LGBMClassifier(n_estimators=150, verbose=-1).fit(*_digits()).booster_.save_model(model)


def bare_lightgbm(model: Path, target: Path) -> None:
    import lightgbm
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    loaded = lightgbm.Booster(model_file=str(model))
    made = convert_lightgbm(loaded, initial_types=[("x", FloatTensorType([None, 64]))], target_opset=15, zipmap=False)
    target.write_bytes(made.SerializeToString())


def make_catboost(model: Path) -> None:
    import catboost

    catboost.CatBoostClassifier(300, verbose=False, allow_writing_files=False).fit(*_digits()).save_model(str(model))


def bare_catboost(model: Path, target: Path) -> None:
    import catboost

    catboost.CatBoost().load_model(str(model)).save_model(str(target), format="onnx")


def make_torch(model: Path) -> None:
    import torch

    layers: list[Any] = [torch.nn.Conv2d(3, 32, 3), torch.nn.ReLU()]
    for _ in range(6):
        layers += [torch.nn.Conv2d(32, 32, 3, padding=1), torch.nn.BatchNorm2d(32), torch.nn.ReLU()]
    net = torch.nn.Sequential(*layers, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(32, 10))
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net.eval(), (torch.randn(2, 3, 32, 32),), dynamic_shapes=free)
    torch.export.save(program, model)


def bare_torch(model: Path, target: Path) -> None:
    import torch

    made = torch.onnx.export(torch.export.load(model), dynamo=True, verbose=False)
    assert made is not None
    made.save(target)


def make_keras(model: Path) -> None:
    _torch_backend()
    import keras

    layers = [keras.layers.Conv2D(16, 3, activation="relu") for _ in range(4)]
    tail = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10, activation="softmax")]
    keras.Sequential([keras.Input((32, 32, 3)), *layers, *tail]).save(model)


def bare_keras(model: Path, target: Path) -> None:
    _torch_backend()
    import keras

    loaded = keras.saving.load_model(model, compile=False)
    loaded(keras.ops.zeros((1, *loaded.input_shape[1:])))  # one that was never called is not exported
    loaded.export(str(target), format="onnx", verbose=False)


def _torch_backend() -> None:
    import os

    os.environ["KERAS_BACKEND"] = "torch"


def make_tensorflow(model: Path) -> None:
    import tensorflow as tf

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            self.kernels = [tf.Variable(tf.random.normal((64, 64), seed=index)) for index in range(8)]

        @tf.function(input_signature=[tf.TensorSpec((None, 64), name="x")])  # type: ignore[untyped-decorator]
        def call(self, x: Any) -> dict[str, Any]:
            for kernel in self.kernels:
                x = tf.nn.relu(x @ kernel)
            return {"y": tf.nn.softmax(x)}

    net = Net()
    tf.saved_model.save(net, str(model), signatures=net.call)


def bare_tensorflow(model: Path, target: Path) -> None:
    import runpy

    sys.argv = ["tf2onnx", "--saved-model", str(model), "--output", str(target), "--opset", "18"]
    runpy.run_module("tf2onnx.convert", run_name="__main__")


def make_jax(model: Path) -> None:
    model.mkdir()
    (model / "net_of_jax.py").write_text(JAX_CODE)


def bare_jax(model: Path, target: Path) -> None:
    sys.path.insert(0, str(model))
    import importlib

    from jax2onnx import to_onnx

    to_onnx(importlib.import_module("net_of_jax").make(), [("n", 64)], return_mode="file", output_path=str(target))


def main(what: str, name: str, model: str, *target: str) -> None:
    function: Callable[..., None] = globals()[f"{what}_{name}"]
    function(Path(model), *map(Path, target))


if __name__ == "__main__":
    main(*sys.argv[1:])
