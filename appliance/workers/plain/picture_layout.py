"""Which size, channels and order of axes an input wants a picture in. Pure; no numpy.

From the declaration first, from the model's own fixed sizes where that says nothing, and refused where they disagree
or leave a choice.
"""

import math
from typing import NamedTuple

from appliance.core.errors import BadInputError
from appliance.core.manifest import ImageInput
from appliance.core.tensors import TensorSpec
from appliance.workers.plain.shapes import fitted_shape
from appliance.workers.plain.targets import CHANNELS

MAX_SIDE = 16384


class Frame(NamedTuple):
    """`height` and `width` 0: the picture's own. `channels` 0: no axis for them."""

    height: int
    width: int
    channels: int
    channels_first: bool


def frame(spec: TensorSpec, declared: ImageInput) -> Frame:
    """What a picture for this input looks like. Raises BadInputError where manifest and model do not go together."""
    if spec.dtype in ("BYTES", "BOOL"):
        raise BadInputError(f"input '{spec.name}' is {spec.dtype}, which a picture cannot become")
    channels = 1 if declared.colour == "L" else 3
    _check_numbers(spec, declared, channels)
    axes = spec.shape[1:] if len(spec.shape) == 4 else spec.shape
    if len(axes) == 3 and not (declared.colour == "L" and _is_rows_of_grey(spec, declared)):
        first = _channels_first(spec, declared, axes, channels)
        height, width = (axes[1], axes[2]) if first else (axes[0], axes[1])
    else:
        first, channels = False, channels if len(axes) != 3 and channels == 3 else 0
        height, width = (axes[-2], axes[-1]) if len(axes) >= 2 and not declared.size else (-1, -1)
    if len(declared.size) == 2:
        height, width = declared.size
    found = Frame(max(height, 0), max(width, 0), channels, first or (declared.layout == "NCHW" and channels > 0))
    return _checked(spec, found)


def _check_numbers(spec: TensorSpec, declared: ImageInput, channels: int) -> None:
    if declared.size and (len(declared.size) != 2 or not all(1 <= side <= MAX_SIDE for side in declared.size)):
        raise _wrong(spec, f"its size is [height, width], each 1 to {MAX_SIDE}")
    for what, numbers in (("mean", declared.mean), ("std", declared.std)):
        if numbers and (len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers))):
            raise _wrong(spec, f"its {what} is one number, or one for each of {channels} channels")
    if 0.0 in declared.std:
        raise _wrong(spec, "its std divides, so it cannot be 0")


def _is_rows_of_grey(spec: TensorSpec, declared: ImageInput) -> bool:
    """Whether a rank-3 input has a batch axis and none for channels: [-1, 28, 28]."""
    return (
        len(spec.shape) == 3 and not declared.layout and spec.shape[0] not in CHANNELS and spec.shape[2] not in CHANNELS
    )


def _channels_first(spec: TensorSpec, declared: ImageInput, axes: tuple[int, ...], channels: int) -> bool:
    if declared.layout:
        place = axes[0] if declared.layout == "NCHW" else axes[2]
        if place not in (-1, channels):
            raise _wrong(
                spec, f"{declared.layout} with colour {declared.colour} puts {channels} where the model has {place}"
            )
        return declared.layout == "NCHW"
    first, last = axes[0] == channels, axes[2] == channels
    if first == last and not (first := axes[0] == channels and axes[2] == -1):
        raise BadInputError(
            f"input '{spec.name}' has shape {list(spec.shape)}, which does not tell where the {channels} channels of a "
            f'{declared.colour} picture go: declare in the manifest layout = "NCHW" or "NHWC", and the colour'
        )
    return first


def _checked(spec: TensorSpec, found: Frame) -> Frame:
    """Raises BadInputError unless a picture of this frame fits the input's shape."""
    height, width = found.height or 1, found.width or 1
    declared = spec.shape
    if not found.height or not found.width:
        return found
    sizes: tuple[int, ...] = (height, width)
    if found.channels:
        sizes = (found.channels, *sizes) if found.channels_first else (*sizes, found.channels)
    if fitted_shape(declared, sizes) is None:
        raise _wrong(spec, f"one picture becomes {list(sizes)}, but the model takes {list(declared)}")
    return found


def _wrong(spec: TensorSpec, reason: str) -> BadInputError:
    return BadInputError(f"the manifest's picture for input '{spec.name}' does not fit the model: {reason}")
