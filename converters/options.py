"""What the user asked of a conversion. Plain data, for both processes."""

import msgspec


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """`inputs`: `NAME=FP32[n,3,224,224]`, for models that do not say so themselves. `opset` 0: the converter's choice.
    `trusted`: what runs code when it is loaded may be loaded. `weights`: a file of weights, for a model given as code.
    """

    opset: int = 0
    float16: bool = False
    int8: bool = False
    trusted: bool = False
    inputs: tuple[str, ...] = ()
    weights: str = ""
