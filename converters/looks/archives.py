"""Models that are ZIP files, told by the names of their entries. Nothing is unpacked but a small text."""

from converters.content import Content
from converters.detected import Detected
from converters.looks.pickles import classes_of
from converters.looks.refusals import refused


def archive(content: Content) -> Detected | None:
    """The first of the known kinds whose entries are there."""
    if content.is_folder or not content.is_zip:
        return None
    if not content.names:
        way = "its list of entries cannot be read: it was cut short or changed, so get it again"
        return Detected(format="zip", what="a damaged ZIP file", refusal=way)
    names = content.inner
    for look in (_keras, _torch, _others):
        if (found := look(content, names)) is not None:
            return found
    return None


def _keras(content: Content, names: dict[str, str]) -> Detected | None:
    if "config.json" in names and ("model.weights.h5" in names or "metadata.json" in names):
        return _judged_keras(content.entry(names["config.json"]))
    return None


def _judged_keras(config: bytes) -> Detected:
    if b'"class_name": "Lambda"' in config or b'"__lambda__"' in config:
        refusal = (
            "it has a Lambda layer, whose code runs when it is opened; replace it with a layer of Keras' own or a "
            "registered class. --trust converts it all the same, in the sandbox"
        )
        return Detected(
            format="keras", what="a Keras model", refusal=refusal, classes=("keras.layers.Lambda",), runs_code=True
        )
    return Detected(format="keras", what="a Keras model")


def _torch(content: Content, names: dict[str, str]) -> Detected | None:
    if {"models/model.json", "archive_format"} <= names.keys() or "serialized_exported_program.json" in names:
        return Detected(format="torch-export", what="a program of torch.export")
    if "models/model.json" in names:
        return Detected(format="torch-export", what="a program of torch.export")
    if "data.pkl" not in names:
        return None
    if any(name.startswith("code/") for name in names):
        return Detected(format="torchscript", what="a TorchScript program")
    classes = classes_of(content.entry(names["data.pkl"]))
    foreign = [name for name in classes if not name.startswith(("torch.", "collections.OrderedDict", "torch._utils."))]
    if foreign or any(name.startswith("torch.nn.modules") for name in classes):
        shown = ", ".join([*foreign, *(name for name in classes if name not in foreign)][:12])
        refusal = (
            f"opening it runs code that it brings (it would load {shown}); save the whole program with torch.export: "
            "`torch.export.save(torch.export.export(model, (example,)), 'model.pt2')`. "
            "--trust converts it all the same, in the sandbox"
        )
        return Detected(
            format="torch-checkpoint", what="a pickled PyTorch model", refusal=refusal, classes=classes, runs_code=True
        )
    return refused("torch-checkpoint")


def _others(content: Content, names: dict[str, str]) -> Detected | None:
    if "schema.json" in names and b"__loader__" in content.entry(names["schema.json"]):
        return Detected(format="skops", what="a skops file")
    if "model.ini" in names or "experimental/modelDetails.json" in names:
        return refused("h2o")
    if "configuration.json" in names and ("coefficients.bin" in names or "updaterState.bin" in names):
        return refused("dl4j")
    if "saved_model.pb" in names:
        way = "unpack it and give the folder"
        return Detected(format="saved-model-zip", what="a SavedModel in a ZIP", refusal=way)
    if any(name.endswith(".npy") for name in names):
        return Detected(format="npz", what="a file of numpy arrays", refusal="it has numbers and no graph")
    if "model.onnx" in names or any(name.endswith(".onnx") and "/" not in name for name in names):
        return Detected(format="bundle", what="a bundle", refusal="it is ready: deploy it as it is")
    return None


LOOKS = (archive,)
