"""Small files of many formats: real ones where no framework is needed for it, else what their first bytes are."""

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path

Files = dict[str, bytes]


class Planted:
    """Unpickled, it would write a file; nobody may."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("/tmp/ingle-was-unpickled"),))


def zipped(files: Files) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for path, data in files.items():
            made.writestr(path, data)
    return content.getvalue()


def field(number: int, data: bytes | int) -> bytes:
    """One field of a protocol buffer."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


NODE = field(1, field(1, b"x") + field(2, b"Placeholder"))
TORCH_DATA = pickle.dumps(OrderedDict(weight=[1.0]), 2)

FILES: dict[str, bytes] = {
    "tflite": b"\x1c\0\0\0TFL3" + bytes(40),
    "catboost": b"CBM1" + bytes(40),
    "catboost-json": json.dumps({"features_info": {}, "model_info": {}, "oblivious_trees": []}).encode(),
    "xgboost-json": b'{"learner":{"attributes":{}},"version":[3,2,0]}',
    "xgboost-ubjson": b"{L" + struct.pack(">q", 7) + b"learner{" + bytes(40),
    "xgboost-binary": b"binf" + bytes(100),
    "lightgbm": b"tree\nversion=v4\nnum_class=1\n",
    "libsvm": b"svm_type c_svc\nkernel_type rbf\n",
    "liblinear": b"solver_type L2R_LR\nnr_class 2\n",
    "pmml": b'<?xml version="1.0"?>\n<!-- made by R -->\n<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"/>',
    "glm": json.dumps({"family": "poisson", "link": "log", "coefficients": {"(Intercept)": 1.0}}).encode(),
    "paddle-pir": b'{"base_code":{"magic":"pir","trainable":false,"version":1},"program":{}}',
    "frozen-graph": NODE + field(4, field(1, 1234)),
    "coreml": field(1, 5) + field(2, field(1, b"d")) + field(500, b"net"),
    "caffe": field(1, b"LeNet") + field(100, field(1, b"conv") + field(2, b"Convolution")),
    "caffe-prototxt": b'name: "LeNet"\nlayer {\n  name: "data"\n}\n',
    "paddle-legacy": field(1, field(1, 0) + field(2, 1)) + field(4, field(1, 0)),
    "saved-model-file": field(1, 1) + field(2, field(2, NODE)),
    "keras": zipped({"metadata.json": b"{}", "config.json": b'{"class_name": "Sequential"}', "model.weights.h5": b""}),
    "hdf5-keras": b"\x89HDF\r\n\x1a\n" + bytes(100) + b"model_config\0" + bytes(50),
    "keras-weights": b"\x89HDF\r\n\x1a\n" + bytes(100) + b"layer_names\0",
    "torchscript": zipped({"m/data.pkl": b"\x80\x02}.", "m/code/__torch__.py": b"", "m/constants.pkl": b""}),
    "torch-export": zipped({"m/archive_format": b"pt2", "m/models/model.json": b"{}"}),
    "torch-checkpoint": zipped({"m/data.pkl": TORCH_DATA, "m/data/0": b"", "m/version": b"3"}),
    "torch-legacy": b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.",
    "safetensors": struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}      ' + bytes(4),
    "skops": zipped({"schema.json": b'{"__class__": "X", "__loader__": "ObjectNode", "protocol": 1}'}),
    "pickle": pickle.dumps({"a": OrderedDict()}),
    "joblib": zlib.compress(pickle.dumps({"a": OrderedDict()})),
    "mxnet": struct.pack("<QQ", 0x112, 0) + bytes(40),
    "darknet": b"[net]\nbatch=1\nwidth=416\n",
    "h2o": zipped({"model.ini": b"[info]\nalgorithm = gbm\n", "trees/t00_000.bin": b""}),
    "dl4j": zipped({"configuration.json": b"{}", "coefficients.bin": b""}),
    "gguf": b"GGUF\x03\0\0\0" + bytes(40),
    "rds": zlib.compressobj(wbits=31).compress(b"") + b"",
    "openvino": b'<?xml version="1.0"?>\n<net name="m" version="11"><layers></layers></net>',
    "tensorrt": b"ftrt" + bytes(40),
    "ort": b"\x20\0\0\0ORTM" + bytes(40),
    "stablehlo": b"ML\xefR" + bytes(40),
    "jax-export": struct.pack("<IHHi", 8, 4, 4, 4) + bytes(60) + b"ML\xefR\rStableHLO_v1.9.0",
    "flax-weights": b"\x81\xa6params\x81\xa6kernel\xc7\x11\x01\x93\x92\x01\x01\xa7float32\xc4\x04" + bytes(4),
    "lightgbm-json": b'{"name":"tree","version":"v4","tree_info":[]}',
    "tfjs": b'{"format": "graph-model", "modelTopology": {"node": []}, "weightsManifest": []}',
    "tfjs-layers": b'{"format": "layers-model", "modelTopology": {"model_config": {}}, "weightsManifest": []}',
    "npz": zipped({"arr_0.npy": b"\x93NUMPY"}),
    "html": b"<!DOCTYPE html><html><body>404</body></html>",
}  # fmt: skip
_GZIP = zlib.compressobj(wbits=31)
FILES["rds"] = _GZIP.compress(b"X\n\0\0\0\x03\0\x04\x03\0") + _GZIP.flush()

FOLDERS: dict[str, Files] = {
    "saved-model": {"saved_model.pb": b"", "variables/variables.index": b""},
    "spark": {
        "metadata/part-00000": b'{"class":"org.apache.spark.ml.classification.LogisticRegressionModel","uid":"x"}\n'
    },
    "hugging-face": {"config.json": b'{"model_type": "bert"}', "model.safetensors": b""},
    "hugging-face-other": {"config.json": b'{"model_type": "bert"}', "tf_model.h5": b""},
    "peft": {"adapter_config.json": b"{}", "adapter_model.safetensors": b""},
    "tfjs": {"model.json": FILES["tfjs"], "group1-shard1of1.bin": b""},
    "paddle-pir": {"inference.json": FILES["paddle-pir"], "inference.pdiparams": b""},
    "tf-checkpoint": {"checkpoint": b"", "model.index": b"", "model.data-00000-of-00001": b""},
    "mlflow": {"MLmodel": b"flavors:", "model.pkl": b""},
    "coreml": {"Manifest.json": b"{}", "Data/com.apple.CoreML/model.mlmodel": b""},
    "orbax": {"_METADATA": b"{}", "manifest.ocdbt": b""},
}


def write_folder(folder: Path, files: Files) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
