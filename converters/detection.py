"""What a file or folder is, from its bytes: never by unpickling it, and never by its name alone.

Runs in the command line's process. Each look takes a Content and says what it recognised, or None; the first that does
is believed, so those that are surest come first. The words for formats, which converters list in `formats`:

    onnx tflite catboost catboost-json xgboost-json xgboost-ubjson lightgbm libsvm liblinear glm pmml
    paddle-pir paddle-legacy saved-model frozen-graph keras hdf5-keras tfjs tfjs-layers
    torchscript torch-export torch-checkpoint torch-legacy hugging-face spark skops pickle joblib

and those of looks/refusals.py, which are recognised to say the way out.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from appliance.core.errors import NotFoundError, RefusedError
from converters import registry
from converters.content import Content
from converters.detected import Detected
from converters.looks import archives, binary, folders, pickles, protobufs, texts

Look = Callable[[Content], Detected | None]
# Any bytes may pass for a protocol buffer, so that comes last.
_LOOKS: tuple[Look, ...] = (
    *folders.LOOKS, *archives.LOOKS, *binary.LOOKS, *texts.LOOKS, *pickles.LOOKS, *protobufs.LOOKS,
)  # fmt: skip


def detect(path: Path) -> Detected:
    """Raises NotFoundError where nothing is there, RefusedError where nothing is recognised."""
    if not path.exists():
        raise NotFoundError(f"{path} is not there: expected a model's file or folder")
    if not path.is_dir() and not path.is_file():
        raise RefusedError(f"{path.name} is neither a file nor a folder")
    content = Content(path)
    try:
        if not content.is_folder and not content.size_bytes:
            raise RefusedError(f"{path.name} is empty: expected a model")
        for look in _looks():
            if (detected := look(content)) is not None:
                return detected
    except OSError as error:
        raise RefusedError(f"{path.name} cannot be read: {error.strerror}") from None
    raise RefusedError(
        f"{path.name} is no model of a kind that is known here: 'ingle convert --list' shows what is taken"
    )


def _looks() -> Iterator[Look]:
    yield from _LOOKS
    for converter in registry.converters().values():
        yield converter.detect
