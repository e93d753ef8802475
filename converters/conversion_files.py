"""The names of what a conversion writes into its folder, which are those of a bundle's members."""

MODEL = "model.onnx"
MANIFEST = "manifest.toml"
RECORD = "parity.json"
VECTORS = "vectors/parity.json"
TABLE = "manifest.json"  # the manifest's table on its way from the conversion's process; no part of the bundle
