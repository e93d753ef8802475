"""Samples at another rate, by a windowed sinc that keeps what the new rate cannot hold from folding back.

Pure. Runs in a worker process. In blocks, so that a long recording takes no more memory than its answer.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
_ZERO_CROSSINGS = 16
_BLOCK_TAPS = 2**20


def resampled(samples: Array, rate: int, wanted: int) -> Array:
    """`samples` (time, channels) in FP32 from `rate` to `wanted` Hz; the same array where the rates are equal."""
    if rate == wanted:
        return samples
    count = max(int(len(samples) * wanted / rate + 0.5), 1)
    cutoff = min(1.0, wanted / rate)
    reach = int(np.ceil(_ZERO_CROSSINGS / cutoff))
    padded = np.pad(samples, ((reach, reach + 1), (0, 0)))
    taps = np.arange(-reach + 1, reach + 1)
    result = np.empty((count, samples.shape[1]), np.float32)
    block = max(_BLOCK_TAPS // (len(taps) * samples.shape[1]), 1)
    for start in range(0, count, block):
        # Integer arithmetic: a float's place would drift over a long recording.
        places = np.arange(start, min(start + block, count), dtype=np.int64) * rate
        whole, part = np.minimum(places // wanted, len(samples)), places % wanted
        # Common rates share few phases (44,100 to 16,000 Hz: 160), so their weights are made once.
        phases, which = np.unique(part, return_inverse=True)
        weights = _weights(taps[None, :] - phases[:, None] / wanted, reach, cutoff)[which]
        gathered = padded[whole[:, None] + (taps + reach)[None, :]]
        result[start : start + block] = np.einsum("nt,ntc->nc", weights, gathered)
    return result


def _weights(distance: Array, reach: int, cutoff: float) -> Array:
    """A low-pass filter's taps for each row of distances, under a Hann window `reach` wide to each side."""
    window = np.cos(np.clip(distance / reach, -1, 1) * (np.pi / 2)) ** 2
    weights = np.sinc(cutoff * distance) * window
    scaled: Array = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return scaled
