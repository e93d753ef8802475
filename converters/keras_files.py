"""Keras' files before and after Keras has read them: whose they are, and whether every weight went to its layer.

In the process of a conversion alone, with the file's copy there, which is rewritten. What older Keras meant by a
configuration is keras_2.py's.
"""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.core.errors import RefusedError
from converters.keras_2 import Origin, refuse_lost_axes, repaired


def refuse_old_archive(path: Path) -> None:
    """Of a .keras file that is not Keras 3's: Keras 2.12 and later had such, and laid their weights otherwise."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("metadata.json") as file:
            version = str(json.loads(file.read(65536))["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return  # Keras says what is wrong with it
    if (origin := Origin(version, "")).is_old:
        way = "open it with that Keras (TensorFlow 2.12 to 2.15, or tf_keras) and save it with model.save('model.h5')"
        raise RefusedError(f"the file is of {origin.words()}, whose .keras files Keras 3 reads otherwise: {way}")


def repair(path: Path) -> tuple[Origin, tuple[str, ...]]:
    """Rewrites the configuration in an HDF5 file that is older than Keras 3; sentences of what that changed.

    Raises RefusedError where Keras 3 would compute something else. A file without a readable configuration is left:
    Keras says what is wrong with it.
    """
    import h5py

    with h5py.File(path, "r+") as file:
        weights = file.get("model_weights")
        origin = Origin(*(_said(word, file, weights) for word in ("keras_version", "backend")))
        try:
            config = json.loads(_text(file.attrs.get("model_config")))
        except ValueError:
            return origin, ()
        if not origin.is_old:
            refuse_lost_axes(config)
            return origin, ()
        config, notes = repaired(config, origin)
        refuse_lost_axes(config)
        file.attrs["model_config"] = json.dumps(config)
        return origin, notes


def check_places(model: Any, path: Path) -> None:
    """That Keras, which gives weights to layers by their order in the file, met the layers that they are named after.

    Where it did not, the layers of the model itself get theirs by name. Raises RefusedError for those of models within
    it: their names lie deeper.
    """
    import h5py

    with h5py.File(path, "r") as file:
        group = file["model_weights"]
        named = {name: _names(group[name], "weight_names") for name in _names(group, "layer_names")}
    stored = [name for name, weights in named.items() if weights]
    layers = [layer for layer in model.layers if layer.weights]
    if stored != [layer.name for layer in layers]:
        if sorted(stored) != sorted(layer.name for layer in layers):
            raise RefusedError("the file's weights are not named after its layers: save the model anew with Keras 3")
        model.load_weights(path, by_name=True)
    for layer in layers:
        if hasattr(layer, "layers") and not _in_order(layer, named[layer.name]):
            raise RefusedError(
                f"the weights within '{layer.name}' lie in another order than Keras 3 takes them in: open the model "
                "with the Keras that wrote it and save it without models in models"
            )


def _in_order(model: Any, names: list[str]) -> bool:
    """Whether each weight has its layer's name in its own. True where names tell nothing, as layers were renamed."""
    owners = {id(weight): layer.name for layer in _leaves(model) for weight in layer.weights}
    wanted = [owners.get(id(weight), "") for weight in (*model.trainable_weights, *model.non_trainable_weights)]
    words = [set(name.split("/")) for name in names]
    if not set(wanted) <= set().union(*words):
        return True
    return all(owner in found for owner, found in zip(wanted, words, strict=True))


def _leaves(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _leaves(layer)
        else:
            yield layer


def _said(word: str, *groups: Any) -> str:
    return next((_text(group.attrs[word]) for group in groups if group is not None and word in group.attrs), "")


def _names(group: Any, word: str) -> list[str]:
    """An attribute that Keras spreads over several, numbered from 0, where it is long."""
    found = [word] if word in group.attrs else []
    while not (found and found[0] == word) and f"{word}{len(found)}" in group.attrs:
        found.append(f"{word}{len(found)}")
    return [_text(name) for key in found for name in group.attrs[key]]


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
