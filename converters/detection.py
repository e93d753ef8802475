"""What a file or folder is, from its bytes: never by unpickling it, and never by its name alone.

Runs in the command line's process. Each look takes a Content and says what it recognised, or None; the first that does
is believed, so those that are surest come first. The words for formats, which converters list in `formats`:

    onnx tflite catboost catboost-json xgboost-json xgboost-ubjson lightgbm libsvm liblinear glm pmml
    paddle-pir saved-model frozen-graph keras hdf5-keras tfjs
    torchscript torch-export torch-checkpoint torch-legacy torch-factory safetensors hugging-face
    spark skops pickle joblib

and of what is recognised only to be refused: gguf coreml caffe mxnet darknet h2o dl4j rds openvino tensorrt ort
jax-export mlflow, and a few more.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.core.errors import NotFoundError, RefusedError
from converters import registry
from converters.content import Content
from converters.detected import Detected
from converters.looks import binary

Look = Callable[[Content], Detected | None]


def detect(path: Path) -> Detected:
    """Raises NotFoundError where nothing is there, RefusedError where nothing is recognised."""
    if not path.exists():
        raise NotFoundError(f"{path} is not there: expected a model's file or folder")
    content = Content(path)
    for look in _looks():
        if (detected := look(content)) is not None:
            return detected
    raise RefusedError(
        f"{path.name} is no model of a kind that is known here: 'ingle convert --list' shows what is taken"
    )


def _looks() -> Iterator[Look]:
    yield from binary.LOOKS
    for converter in registry.converters().values():
        yield converter.detect
