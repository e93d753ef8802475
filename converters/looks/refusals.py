"""The ways out: for each kind of model that is recognised and not converted, what its owner does instead. Pure."""

from converters.detected import Detected

# The word | what it is | the way out.
_TABLE = """
gguf | a GGUF model | it holds a language model for llama.cpp: serve it with llama.cpp's own server, or export the
    original with optimum (`optimum-cli export onnx`)
coreml | a Core ML model | it was converted from another framework and cannot be taken back: convert the original,
    as .pt2, .keras or SavedModel
caffe | a Caffe model | load it with OpenCV or convert it with a tool of its time (caffe2onnx), then give the ONNX
    file
caffe-prototxt | a Caffe network without weights | the weights are in the .caffemodel beside it: convert the two
    with a tool of its time (caffe2onnx), then give the ONNX file
mxnet | an MXNet model | export it with `mxnet.onnx.export_model('NAME-symbol.json', 'NAME-0000.params', [SHAPE])`
    in an environment with mxnet 1.9, then give the ONNX file
darknet | a Darknet network | load .cfg and .weights with a PyTorch implementation of YOLO and export it with
    torch.onnx.export, then give the ONNX file
h2o | an H2O model (MOJO) | H2O writes no ONNX: export it as PMML where it was made, or train H2O's XGBoost and
    save that booster as JSON
dl4j | a Deeplearning4j model | import it into SameDiff and export that, or save the Keras model it came from as
    .keras
rds | an R object (saveRDS) | R objects need R: write PMML with r2pmml, xgb.save() for XGBoost, lgb.save() for
    LightGBM, or a glm's coefficients as JSON
openvino | an OpenVINO model (IR) | it was converted from ONNX or a framework: give that original
tensorrt | a TensorRT engine | it is compiled for one GPU: give the ONNX file that it was built from
ort | a model in onnxruntime's ORT format | give the ONNX file that it was made from
jax-export | a serialised jax.export program | it holds compiled StableHLO: give the function itself as
    module:factory
flax-weights | a file of Flax weights (msgpack) | weights alone are no program: give the model as module:factory
    with --weights FILE
stablehlo | an MLIR or StableHLO program | give the function in its framework, as module:factory or SavedModel
orbax | a folder of JAX or Flax weights (Orbax) | weights alone are no program: give the model as module:factory
    with --weights
mlflow | an MLflow folder | give the model within it: the `artifact_path` in MLmodel says which file
peft | an adapter of PEFT (LoRA and its kin) | it changes a model and is none: merge the two with
    `model.merge_and_unload().save_pretrained("folder")`, and give that folder
hugging-face-cache | a folder of links, as in Hugging Face's cache | links are not followed: fetch the files
    themselves with `hf download NAME --local-dir folder`, and give that folder
hugging-face-other | a Hugging Face folder with weights of TensorFlow or Flax alone | load it with `from_tf=True` or
    `from_flax=True` in Transformers 4 and save_pretrained() it, which writes safetensors
safetensors | a safetensors file | it has weights and no graph: give the folder with config.json, or the model as
    module:factory with --weights FILE
torch-checkpoint | a PyTorch checkpoint | it has weights and perhaps a pickled class, no graph: save the whole
    program with torch.export (`torch.export.save(torch.export.export(model, (example,)), 'model.pt2')`), or give
    the model as module:factory with --weights FILE
hdf5 | an HDF5 file that is no Keras model | expected `model_config` in it: a file of weights alone has no graph
keras-weights | a file of Keras weights alone | it has no graph: save the whole model with
    `model.save('model.keras')`
xgboost-binary | an XGBoost model in its old binary form | which XGBoost itself no longer reads: load it with the
    version that wrote it and `save_model('model.json')`
lightgbm-json | a LightGBM dump in JSON | it is for reading: save the model with `booster.save_model('model.txt')`
xgboost-dump | an XGBoost dump | it is for reading: save the model with `booster.save_model('model.json')`
tf-checkpoint | a TensorFlow checkpoint | it has weights and no graph: save the whole model with
    `tf.saved_model.save(model, 'folder')`
paddle-params | Paddle parameters alone | give the .json beside them
ncnn | an ncnn model | it was converted from ONNX or a framework: give that original
mnn | an MNN model | it was converted from ONNX or a framework: give that original
r-data | an R workspace | R objects need R: write PMML with r2pmml, or the booster's own file
weka | a Java object, perhaps a Weka model | Java objects need Java: write PMML from Weka, or train the same in
    scikit-learn
matlab | a MATLAB file | export the network with exportONNXNetwork, then give the ONNX file
cntk | a CNTK model | save it with `model.save(path, format=C.ModelFormat.ONNX)`, then give the ONNX file
wolfram | a Wolfram WLNet | export it with Export["model.onnx", net], then give the ONNX file
fasttext | a fastText model | its vectors are made from pieces of words, for which there is no ONNX operator:
    export the vectors of your vocabulary and train on them
vowpal-wabbit | a Vowpal Wabbit model | its hashed features have no ONNX operator: write `--readable_model` and
    give the coefficients as JSON
"""


def _parsed() -> dict[str, tuple[str, str]]:
    rows = (" ".join(row.split()).split(" | ") for row in _TABLE.replace("\n    ", " ").strip().split("\n"))
    return {word: (what, way) for word, what, way in rows}


_WAYS = _parsed()


def refused(word: str, **facts: str) -> Detected:
    """The finding for one of the words above."""
    what, way = _WAYS[word]
    return Detected(format=word, what=what, refusal=way, facts=facts)
