"""A picture as an input's tensor: opened, set upright, brought to the size and colours that are declared.

Runs in a worker process, confined and bounded, since decoders are where hostile bytes do harm. Reads JPEG, PNG, WebP,
BMP and GIF's first frame and nothing else that Pillow could.
"""

import io
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageOps,
    JpegImagePlugin,
    MpoImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from appliance.core.errors import BadInputError, IngleError, TooLargeError
from appliance.core.manifest import ImageInput
from appliance.core.tensors import DTYPES, TensorSpec
from appliance.workers.plain import values
from appliance.workers.plain.picture_layout import Frame, frame, picture_shape

Array = NDArray[Any]
FORMATS = tuple(
    plugin.format
    for plugin in (
        JpegImagePlugin.JpegImageFile,
        PngImagePlugin.PngImageFile,
        WebPImagePlugin.WebPImageFile,
        BmpImagePlugin.BmpImageFile,
        GifImagePlugin.GifImageFile,
    )
)
# What Pillow would import at its first need, for EXIF and for pictures that phones take in pairs: here it is imported
# once, before workers are forked and confined.
_LATER = (MpoImagePlugin, TiffImagePlugin)
MAX_PIXELS = 64 * 2**20  # the largest phone pictures are 50 million; as RGB this is 192 MiB
MAX_FREE_PIXELS = 16 * 2**20  # where neither the model nor the manifest bounds the size: 192 MiB as FP32


def image_tensor(spec: TensorSpec, declared: ImageInput, body: bytes | memoryview) -> Array:
    """The input's tensor, one picture. Raises BadInputError, TooLargeError where the picture is beyond the bounds."""
    wanted = frame(spec, declared)
    picture = _decoded(body)
    picture = _coloured(picture, declared.colour)
    picture = _sized(picture, wanted, declared)
    pixels = np.asarray(picture).reshape(picture.height, picture.width, wanted.channels)
    if declared.colour == "BGR":
        pixels = pixels[:, :, ::-1]
    pixels = _scaled(pixels, spec, declared)
    if wanted.channels_first:
        pixels = pixels.transpose(2, 0, 1)
    shape = picture_shape(spec, pixels.shape)
    if shape is None:
        raise BadInputError(
            f"the picture becomes {list(pixels.shape)}, but input '{spec.name}' takes {values.described(spec)}: "
            "send one of that size, or declare `size` in the manifest"
        )
    return np.ascontiguousarray(pixels).reshape(shape)


def _decoded(body: bytes | memoryview) -> Image.Image:
    """The picture, all of it read and upright."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture: Image.Image = Image.open(io.BytesIO(body), formats=FORMATS)
            width, height = picture.size
            if width * height > MAX_PIXELS:
                raise TooLargeError(
                    f"the picture is {width} x {height}: at most {MAX_PIXELS} pixels are taken; send a smaller one"
                )
            picture.load()
            return _upright(picture)
    except IngleError:
        raise
    except (Image.DecompressionBombError, MemoryError):
        raise TooLargeError(f"the picture is too large: at most {MAX_PIXELS} pixels are taken") from None
    except UnidentifiedImageError:
        raise BadInputError(f"the content is no picture that can be read: send {', '.join(FORMATS)}") from None
    except Exception as error:  # decoders meet hostile bytes with whatever they stumble over
        raise BadInputError(f"the picture is damaged or cut short: {' '.join(str(error).split())[:200]}") from None


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken EXIF in a picture that is otherwise whole: shown as it lies, as viewers do
        return picture


def _coloured(picture: Image.Image, colour: str) -> Image.Image:
    """8 bits a channel, RGB or L. What is transparent is seen on white, as on paper."""
    if picture.mode.startswith("I") or picture.mode == "F":
        deep = np.asarray(picture).astype(np.float64)
        # 16-bit grey, whose upper byte is the 8-bit picture.
        picture = Image.fromarray((np.clip(deep, 0, 65535) // 256).astype(np.uint8))
    mode = "L" if colour == "L" else "RGB"
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        paper = Image.new("RGBA", seen.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(paper, seen).convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)


def _sized(picture: Image.Image, wanted: Frame, declared: ImageInput) -> Image.Image:
    width, height = picture.size
    to_width, to_height = wanted.width or width, wanted.height or height
    if not (wanted.width and wanted.height) and to_width * to_height > MAX_FREE_PIXELS:
        raise TooLargeError(
            f"the picture is {width} x {height} and the model takes any size: at most {MAX_FREE_PIXELS} pixels are "
            "taken then; send a smaller one, or declare `size` in the manifest"
        )
    cuts = declared.resize == "crop" and declared.shorter > 0
    if (width, height) == (to_width, to_height) and not cuts:
        return picture
    filling = Image.Resampling[declared.filter.upper()]
    if declared.resize == "crop":
        if cuts:
            return picture.resize((to_width, to_height), filling, box=_middle(picture.size, wanted, declared.shorter))
        scale = max(to_width / width, to_height / height)
        inner_width, inner_height = to_width / scale, to_height / scale
        left, top = (width - inner_width) / 2, (height - inner_height) / 2
        # Cut and scaled in one step: scaling all of a picture of 1 x 60,000 first would make a huge one.
        box = (max(left, 0.0), max(top, 0.0), min(left + inner_width, width), min(top + inner_height, height))
        return picture.resize((to_width, to_height), filling, box=box)
    if declared.resize == "pad":
        scale = min(to_width / width, to_height / height)
        inner = (min(max(round(width * scale), 1), to_width), min(max(round(height * scale), 1), to_height))
        padded = Image.new(picture.mode, (to_width, to_height))
        small = picture.resize(inner, filling)
        padded.paste(small, ((to_width - inner[0]) // 2, (to_height - inner[1]) // 2))
        return padded
    return picture.resize((to_width, to_height), filling)


def _middle(size: tuple[int, int], wanted: Frame, shorter: int) -> tuple[float, float, float, float]:
    """What of the picture is seen once its shorter side is scaled to `shorter` and the middle is cut out: as
    Transformers and torchvision count whole pixels of the scaled picture, which is never made."""
    scaled = [shorter if side == min(size) else int(shorter * side / min(size)) for side in size]
    inner = (wanted.width, wanted.height)
    first = [(whole - part) // 2 for whole, part in zip(scaled, inner, strict=True)]
    left, top = (start * side / whole for start, side, whole in zip(first, size, scaled, strict=True))
    right, bottom = (
        (start + part) * side / whole for start, part, side, whole in zip(first, inner, size, scaled, strict=True)
    )
    return left, top, right, bottom


def _scaled(pixels: Array, spec: TensorSpec, declared: ImageInput) -> Array:
    """`(pixel * scale - mean) / std` in the input's dtype; whole-number inputs get it rounded, within their range."""
    target = np.dtype(DTYPES[spec.dtype].numpy)
    changed: Array = pixels
    if declared.scale != 1.0 or declared.mean or declared.std:
        changed = pixels.astype(np.float32) * np.float32(declared.scale)
        if declared.mean:
            changed -= np.asarray(declared.mean, np.float32)
        if declared.std:
            changed /= np.asarray(declared.std, np.float32)
    if spec.dtype == "BF16":
        return values.bfloat16_bits(changed)
    if target.kind in "iu" and (changed.dtype.kind == "f" or target.itemsize == 1):
        limits = np.iinfo(target)
        changed = np.clip(np.rint(changed), limits.min, limits.max)
    return changed.astype(target)
