"""A picture as the tensor that an image model takes, by its declaration: the same steps as the node's, in brief."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import RefusedError
from appliance.core.manifest import ImageInput
from appliance.core.tensors import DTYPES, TensorSpec


def picture_tensor(file: Path, spec: TensorSpec, declared: ImageInput) -> NDArray[Any]:
    """One picture, a batch of one. It is stretched to the model's size: for a comparison any picture does."""
    from PIL import Image

    if len(spec.shape) != 4:
        raise RefusedError(f"input '{spec.name}' of shape {list(spec.shape)} takes no picture")
    last = declared.layout == "NHWC" or (not declared.layout and spec.shape[3] in (1, 3))
    sizes = spec.shape[1:3] if last else spec.shape[2:4]
    height, width = declared.size or tuple(size if size > 0 else 224 for size in sizes)
    channels = spec.shape[3] if last else spec.shape[1]
    with Image.open(file) as picture:
        grey = declared.colour == "L" or channels == 1
        resized = picture.convert("L" if grey else "RGB").resize((width, height), Image.Resampling.BILINEAR)
    pixels: NDArray[Any] = np.asarray(resized, np.float32).reshape(height, width, -1)
    if declared.colour == "BGR":
        pixels = pixels[..., ::-1]
    pixels = pixels * declared.scale - np.asarray(declared.mean or (0.0,), np.float32)
    pixels = pixels / np.asarray(declared.std or (1.0,), np.float32)
    tensor = pixels[None] if last else pixels.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(tensor).astype(DTYPES[spec.dtype].numpy)
