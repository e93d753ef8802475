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

MAX_SIDE = 16384


class Frame(NamedTuple):
    """`height` and `width` 0: the picture's own."""

    height: int
    width: int
    channels: int
    channels_first: bool

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The axes of a picture of that size in this layout."""
        return (self.channels, height, width) if self.channels_first else (height, width, self.channels)


def frame(spec: TensorSpec, declared: ImageInput) -> Frame:
    """What a picture for this input looks like. Raises BadInputError where declaration and model do not go together."""
    if spec.dtype in ("BYTES", "BOOL"):
        raise _wrong(spec, f"the input is {spec.dtype}, which a picture cannot become")
    channels = 1 if declared.colour == "L" else 3
    _check_numbers(spec, declared, channels)
    first = _channels_first(spec, declared, channels)
    height, width = declared.size or _own_size(spec, declared, first)
    found = Frame(max(height, 0), max(width, 0), channels, first)
    if declared.shorter and not max(found.height, found.width) <= declared.shorter * bool(found.height and found.width):
        raise _wrong(spec, "shorter is at least as long as the sides of the size, which must be known")
    becomes = found.shape(found.height, found.width)
    if 0 not in becomes and picture_shape(spec, becomes) is None:
        raise _wrong(spec, f"one picture becomes {list(becomes)}, but the model takes {list(spec.shape)}")
    return found


def picture_shape(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """The input's shape for one picture of `shape`, or None; an input of rank 1 or 2 takes it flat too."""
    fitted = fitted_shape(spec.shape, shape)
    if fitted is None and len(spec.shape) <= 2:
        fitted = fitted_shape(spec.shape, (math.prod(shape),))
    return fitted


def _check_numbers(spec: TensorSpec, declared: ImageInput, channels: int) -> None:
    if declared.size and (len(declared.size) != 2 or not all(1 <= side <= MAX_SIDE for side in declared.size)):
        raise _wrong(spec, f"size is [height, width], each 1 to {MAX_SIDE}")
    if not 0 <= declared.shorter <= MAX_SIDE or (declared.shorter and declared.resize != "crop"):
        raise _wrong(spec, f'shorter is 0 to {MAX_SIDE}, and goes with resize = "crop" alone')
    for what, numbers in (("mean", declared.mean), ("std", declared.std)):
        if numbers and (len(numbers) not in (1, channels) or not all(map(math.isfinite, numbers))):
            raise _wrong(spec, f"{what} is one number, or one for each of {channels} channels")
    if 0.0 in declared.std or not math.isfinite(declared.scale):
        raise _wrong(spec, "std divides, so it cannot be 0, and scale is a finite number")


def _channels_first(spec: TensorSpec, declared: ImageInput, channels: int) -> bool:
    if declared.layout:
        return declared.layout == "NCHW"
    if len(spec.shape) >= 3:
        front, back = spec.shape[-3], spec.shape[-1]
        for possible in ((channels,), (channels, -1)):
            if (front in possible) != (back in possible):
                return front in possible
    if channels == 1 and len(spec.shape) <= 3:
        return True  # grey without an axis for its one channel: either order is the same
    raise _wrong(
        spec,
        f"shape {list(spec.shape)} does not tell where the {channels} channels of a {declared.colour} picture go; "
        'the manifest can: layout = "NCHW" or "NHWC"',
    )


def _own_size(spec: TensorSpec, declared: ImageInput, first: bool) -> tuple[int, int]:
    """The height and width that the model's shape tells, -1 where it leaves them free."""
    shape = spec.shape
    if len(shape) == 2 and declared.colour == "L" and -1 not in shape and shape[0] != 1:
        return shape[0], shape[1]
    if len(shape) < 3:
        raise _wrong(spec, f"shape {list(shape)} does not tell its height and width; the manifest can: size = [H, W]")
    rows_of_grey = len(shape) == 3 and declared.colour == "L" and 1 not in (shape[0], shape[2]) and not declared.layout
    if rows_of_grey or first:
        return shape[-2], shape[-1]
    return shape[-3], shape[-2]


def _wrong(spec: TensorSpec, reason: str) -> BadInputError:
    return BadInputError(
        f"a picture cannot fill input '{spec.name}': {reason} (declared in the manifest as = \"image\": size, layout, "
        "colour, scale, mean, std; application/json takes the numbers themselves)"
    )
