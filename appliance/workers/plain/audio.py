"""A recording as an input's tensor: WAV read, channels mixed, brought to the declared rate.

Runs in a worker process.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from appliance.core.errors import BadInputError, TooLargeError
from appliance.core.manifest import AudioInput
from appliance.core.tensors import DTYPES, TensorSpec, element_count
from appliance.workers.plain import values
from appliance.workers.plain.resampling import resampled
from appliance.workers.plain.wav import MAX_SAMPLES, read_wav

Array = NDArray[Any]


def audio_tensor(spec: TensorSpec, declared: AudioInput, body: bytes | memoryview) -> Array:
    """The input's tensor, one recording; where the model fixes the length, silence fills up a shorter one.

    Raises BadInputError, TooLargeError.
    """
    check(spec, declared)
    recording = read_wav(body)
    samples = _mixed(recording.samples, declared.channels)
    length = len(samples) * declared.rate / recording.rate
    if length * declared.channels > MAX_SAMPLES:
        raise TooLargeError(
            f"the recording would be {round(length)} samples at {declared.rate} Hz: at most "
            f"{MAX_SAMPLES // declared.channels} are taken; send it in parts"
        )
    samples = _filled(spec, resampled(samples, recording.rate, declared.rate), declared)
    array = _typed(spec, samples)
    if declared.layout == "samples":
        array = array[:, 0]
    elif declared.layout == "channels_samples":
        array = np.ascontiguousarray(array.T)
    return values.shaped(spec, array, array.shape)


def check(spec: TensorSpec, declared: AudioInput) -> None:
    """Raises BadInputError where the declaration contradicts itself or the model."""
    if spec.dtype in ("BYTES", "BOOL"):
        raise BadInputError(f"input '{spec.name}' is {spec.dtype}, which a recording cannot become")
    if not 1 <= declared.channels <= 64 or not 100 <= declared.rate <= 1_000_000:
        raise BadInputError(
            f"the manifest's recording for input '{spec.name}' is wrong: channels are 1 to 64, "
            "the rate 100 to 1000000 Hz"
        )
    if declared.channels > 1 and declared.layout == "samples":
        raise BadInputError(
            f"the manifest's recording for input '{spec.name}' is wrong: layout \"samples\" has no place for "
            f'{declared.channels} channels; say "channels_samples" or "samples_channels"'
        )


def _mixed(samples: Array, channels: int) -> Array:
    given = samples.shape[1]
    if given == channels:
        return samples
    if channels == 1:
        mixed: Array = samples.mean(axis=1, keepdims=True)
        return mixed
    if given == 1:
        return np.repeat(samples, channels, axis=1)
    raise BadInputError(f"the recording has {given} channels, but the model takes {channels}")


def _filled(spec: TensorSpec, samples: Array, declared: AudioInput) -> Array:
    row = spec.shape[1:] if len(spec.shape) > 1 and spec.shape[0] in (-1, 1) else spec.shape
    room = element_count(row) // declared.channels if row and -1 not in row else 0
    if room and len(samples) > room:
        raise BadInputError(
            f"the recording has {len(samples)} samples at {declared.rate} Hz, but the model takes {room} "
            f"({room / declared.rate:.3g} seconds): send a shorter one, or one for each part"
        )
    if len(samples) < room:
        samples = np.concatenate([samples, np.zeros((room - len(samples), samples.shape[1]), samples.dtype)])
    return samples


def _typed(spec: TensorSpec, samples: Array) -> Array:
    """-1..1 for floats; whole-number inputs get their full range."""
    if spec.dtype == "BF16":
        return values.bfloat16_bits(samples)
    target = np.dtype(DTYPES[spec.dtype].numpy)
    if target.kind == "f":
        return samples.astype(target)
    limits = np.iinfo(target)
    half = (int(limits.max) - int(limits.min) + 1) / 2
    middle = half if target.kind == "u" else 0.0
    scaled = np.rint(samples.astype(np.float64) * half + middle)
    # A double cannot hold the largest 64-bit numbers: the largest it can hold below them bounds it.
    highest = np.nextafter(float(limits.max), 0) if target.itemsize == 8 else float(limits.max)
    return np.clip(scaled, float(limits.min), highest).astype(target)
