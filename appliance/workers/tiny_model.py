"""The smallest model there is, for warming onnxruntime up before any fork.

Made once with onnx.helper: one Identity node from `x` to `y`, FLOAT of shape [n], opset 17, IR version 8.
"""

IDENTITY_MODEL = bytes.fromhex(
    "080812003a390a100a017812017922084964656e746974791201675a100a0178120b0a09080112050a0312016e"
    "62100a0179120b0a09080112050a0312016e42040a001011"
)
