"""Models of JAX become ONNX that answers as they do in batches of any size, with the weights of a file or their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from appliance.core.errors import RefusedError
from converters import isolation
from converters.converter import Conversion
from converters.detected import Detected
from converters.detection import detect
from converters.frameworks.jax import CONVERTER
from converters.isolation import Limits
from converters.job import Job
from converters.options import Options
from tests.converters.converting import compared

jax = pytest.importorskip("jax", reason="JAX is not installed: 'make test-nets' has it")
pytest.importorskip("jax2onnx", reason="jax2onnx is not installed: 'make test-nets' has it")

pytestmark = pytest.mark.filterwarnings("ignore")

CODE = """
import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

KEYS = jax.random.split(jax.random.key(0), 8)
W = [jax.random.normal(key, shape) for key, shape in zip(KEYS, [(4, 16), (16, 3), (5, 5), (12, 8), (8, 8), (8, 8)])]


def plain():
    return lambda x: jax.nn.softmax(jnp.tanh(x @ W[0]) @ W[1])


def itself(x):
    return jnp.maximum(x @ W[0], 0.0) @ W[1]


def table():
    def predict(x, k):
        return {"scores": jax.nn.sigmoid(x @ W[0])[:, :3], "best": jnp.argmax(x, -1), "picked": W[1][k]}

    return predict


def scanned():
    def recur(series):
        def step(state, x):
            state = 0.5 * state + jnp.tanh(x @ W[2])
            return state, state.sum(-1)

        last, sums = jax.lax.scan(step, jnp.zeros_like(series[:, 0]), jnp.swapaxes(series, 0, 1))
        return last

    return recur


def attending():
    def call(x):
        q, k, v = x @ W[3], x @ W[3], x @ W[3]
        scores = jnp.einsum("btd,bsd->bts", q, k) / 8.0**0.5
        mask = jnp.tril(jnp.ones(scores.shape[1:], bool))
        return jnp.einsum("bts,bsd->btd", jax.nn.softmax(jnp.where(mask, scores, -1e9)), v)

    return call


def layered(params, x):
    for w, b in params[:-1]:
        x = jax.nn.relu(x @ w + b)
    return x @ params[-1][0] + params[-1][1]


class Mlp(nnx.Module):
    def __init__(self, rngs):
        self.inner, self.norm = nnx.Linear(4, 16, rngs=rngs), nnx.BatchNorm(16, rngs=rngs)
        self.dropout, self.out = nnx.Dropout(0.5, rngs=rngs), nnx.Linear(16, 3, rngs=rngs)
        self.norm.mean[...] = jnp.linspace(-1, 1, 16)
        self.norm.var[...] = jnp.linspace(0.5, 2, 16)

    def __call__(self, x):
        return nnx.softmax(self.out(self.dropout(nnx.relu(self.norm(self.inner(x))))))


class Pictures(nnx.Module):
    def __init__(self, rngs):
        self.first, self.second = nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Conv(8, 8, (3, 3), strides=2, rngs=rngs)
        self.norm, self.out = nnx.GroupNorm(8, num_groups=2, rngs=rngs), nnx.Linear(8, 5, rngs=rngs)

    def __call__(self, image):
        x = nnx.max_pool(nnx.gelu(self.norm(self.first(image))), (2, 2), strides=(2, 2))
        return nnx.log_softmax(self.out(nnx.silu(self.second(x)).mean((1, 2))))


class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(50, 16, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(2, 16, decode=False, dropout_rate=0.1, rngs=rngs)
        self.norm, self.out = nnx.LayerNorm(16, rngs=rngs), nnx.Linear(16, 4, rngs=rngs)

    def __call__(self, ids):
        x = self.embed(ids)
        return self.out(self.norm(x + self.attention(x)).mean(1))


class Series(nnx.Module):
    def __init__(self, rngs):
        self.rnn, self.out = nnx.RNN(nnx.GRUCell(4, 8, rngs=rngs)), nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, series):
        return self.out(self.rnn(series)[:, -1])


def mlp():
    return Mlp(nnx.Rngs(0))


def pictures():
    return Pictures(nnx.Rngs(0))


def encoder():
    return Encoder(nnx.Rngs(0))


def gru():
    return Series(nnx.Rngs(0))


class Old(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(3)(x)


class OldPictures(nn.Module):
    @nn.compact
    def __call__(self, image):
        x = nn.avg_pool(nn.relu(nn.Conv(8, (3, 3))(image)), (2, 2), strides=(2, 2))
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


class OldEncoder(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, deterministic=True)(nn.LayerNorm()(x))
        return nn.Dense(16)(nn.gelu(nn.Dense(32)(x)))


def old():
    return Old(), Old().init(jax.random.key(1), jnp.zeros((1, 4)), train=False)


def old_pictures():
    return OldPictures(), OldPictures().init(jax.random.key(1), jnp.zeros((1, 28, 28, 1)))


def old_encoder():
    return OldEncoder(), OldEncoder().init(jax.random.key(1), jnp.zeros((1, 6, 16)))


class OldSeries(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.RNN(nn.GRUCell(5))(nn.RNN(nn.LSTMCell(6))(x))[:, -1])


def old_series():
    return OldSeries(), OldSeries().init(jax.random.key(1), jnp.zeros((1, 7, 4)))


def remainders():
    return lambda ids: {"quotient": ids // 3, "remainder": ids % 4, "picked": W[2][ids % 3]}


def brain():
    return lambda x: jnp.dot(x.astype(jnp.bfloat16), W[0].astype(jnp.bfloat16)).astype(jnp.float32)


def bare():
    return Old()


def eqx_mlp():
    return eqx.nn.MLP(4, 3, 16, 2, key=KEYS[0])


def eqx_pictures():
    keys = jax.random.split(KEYS[1], 2)
    return eqx.nn.Sequential([
        eqx.nn.Conv2d(1, 4, 3, key=keys[0]), eqx.nn.Lambda(jax.nn.relu), eqx.nn.MaxPool2d(2, 2), eqx.nn.Dropout(0.5),
        eqx.nn.Lambda(jnp.ravel), eqx.nn.Linear(4 * 13 * 13, 5, key=keys[1]),
    ])


def broken():
    raise ValueError("no such luck")


def wrong():
    return 7


def sorting():
    return lambda x: jax.scipy.linalg.expm(x[:, :2, None] * W[2][:2, :2])


def forever():
    return lambda x: jax.lax.while_loop(lambda s: jnp.all(s[1] >= 0), lambda s: (s[0] + 0.0, s[1] * 0 + 1), (x, 0))[0]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"jax_models_{abs(hash(str(tmp_path))):x}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def conversion(module: str, factory: str, folder: Path, **options: Any) -> Conversion:
    folder.mkdir()
    detected = Detected(format="code", what="code", facts={"module": module, "factory": factory})
    return CONVERTER.convert(Path(f"{module}:{factory}"), detected, folder, Options(**options), lambda _: None)


MODELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "function: perceptron": ("plain", ("x=FP32[n,4]",)),
    "function given itself": ("itself", ("x=FP32[n,4]",)),
    "function: a table of outputs, labels, indices": ("table", ("x=FP32[n,4]", "k=INT32[n]")),
    "function: lax.scan over a series": ("scanned", ("series=FP32[n,9,5]",)),
    "function: causal attention": ("attending", ("x=FP32[n,6,12]",)),
    "Flax nnx: batch norm, dropout": ("mlp", ()),
    "Flax nnx: convolutions, group norm": ("pictures", ("image=FP32[n,32,32,3]",)),
    "Flax nnx: embedding, attention": ("encoder", ("ids=INT32[n,7]",)),
    "Flax nnx: GRU": ("gru", ("series=FP32[n,6,4]",)),
    "Flax linen: batch norm, dropout": ("old", ()),
    "Flax linen: convolutions": ("old_pictures", ()),
    "Flax linen: transformer block": ("old_encoder", ("x=FP32[n,6,16]",)),
    "Flax linen: LSTM and GRU": ("old_series", ("x=FP32[n,7,4]",)),
    "function: remainders": ("remainders", ("ids=INT32[n,5]",)),
    "function: bfloat16": ("brain", ("x=FP32[n,4]",)),
    "Equinox: perceptron": ("eqx_mlp", ()),
    "Equinox: convolutions": ("eqx_pictures", ("image=FP32[n,1,28,28]",)),
}


@pytest.mark.parametrize("family", MODELS)
def test_a_model_of_jax_answers_as_before_in_any_batch(family: str, module: str, tmp_path: Path) -> None:
    factory, inputs = MODELS[family]
    made = conversion(module, factory, tmp_path / "to", inputs=inputs)
    report = compared(made, CONVERTER, family, word="code", rows=24)
    assert report.within
    assert report.batch_sizes[:2] == (1, 3)


def test_what_a_model_takes_is_named_by_its_parameters_and_what_it_gives_by_its_keys(
    module: str, tmp_path: Path
) -> None:
    made = conversion(module, "table", tmp_path / "to", inputs=("FP32[n,4]", "INT64[n]"))
    report = compared(made, CONVERTER, "function: a table, INT64 asked for", word="code", rows=8)
    assert {output.name for output in report.outputs} == {"scores", "best", "picked"}
    assert set(made.rows(3, np.random.default_rng(0))) == {"x", "k"}  # type: ignore[misc, arg-type]
    assert any("32 bits" in note for note in made.notes)


def test_doubles_stay_doubles_where_they_are_asked_for(module: str, tmp_path: Path) -> None:
    try:
        made = conversion(module, "itself", tmp_path / "to", inputs=("x=FP64[n,4]",))
        report = compared(made, CONVERTER, "function, double precision", word="code", rows=24)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert report.within
    assert [output.dtype for output in report.outputs] == ["FP64"]


def flat(tree: Any) -> dict[str, Any]:
    pairs, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf) for path, leaf in pairs}


def write_npz(tree: Any, path: Path) -> None:
    np.savez(path, **flat(tree))


def write_safetensors(tree: Any, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({name.replace("/", "."): array for name, array in flat(tree).items()}, path)


def write_msgpack(tree: Any, path: Path) -> None:
    from flax import serialization

    path.write_bytes(serialization.msgpack_serialize(jax.tree.map(np.asarray, tree)))


WRITERS = {"npz": write_npz, "safetensors": write_safetensors, "msgpack": write_msgpack}


@pytest.mark.parametrize("form", WRITERS)
def test_a_linen_module_gets_its_weights_from_a_file(form: str, module: str, tmp_path: Path) -> None:
    code = __import__(module)
    model, variables = code.old()
    variables = jax.tree.map(lambda leaf: leaf * 1.5 + 0.25, variables)
    path = tmp_path / f"weights.{form}"
    WRITERS[form](variables, path)
    made = conversion(module, "bare", tmp_path / "to", weights=str(path), inputs=("x=FP32[n,4]",))
    assert compared(made, CONVERTER, f"Flax linen with weights ({form})", word="code", rows=24).within
    x = np.ones((2, 4), np.float32)
    assert made.answer({"x": x})["output"] == pytest.approx(np.asarray(model.apply(variables, x, train=False)))


def test_an_nnx_module_and_a_function_get_theirs_too(module: str, tmp_path: Path) -> None:
    from flax import nnx

    state = nnx.to_pure_dict(nnx.state(__import__(module).mlp(), nnx.Not(nnx.RngState)))
    write_npz(jax.tree.map(np.zeros_like, state), tmp_path / "zeros.npz")
    made = conversion(module, "mlp", tmp_path / "nnx", weights=str(tmp_path / "zeros.npz"))
    assert compared(made, CONVERTER, "Flax nnx with weights (npz)", word="code", rows=24).within
    assert made.answer({"x": np.ones((1, 4), np.float32)})["output"] == pytest.approx(np.full((1, 3), 1 / 3))
    layers = [(np.eye(4, 6, dtype=np.float32), np.ones(6, np.float32)), (np.ones((6, 2), np.float32), np.zeros(2))]
    write_npz(layers, tmp_path / "layers.npz")
    made = conversion(
        module, "layered", tmp_path / "plain", weights=str(tmp_path / "layers.npz"), inputs=("x=FP32[n,4]",)
    )
    assert compared(made, CONVERTER, "function with weights (npz)", word="code", rows=24).within
    assert made.answer({"x": np.ones((1, 4), np.float32)})["output"] == pytest.approx(np.full((1, 2), 10.0))


def test_weights_of_another_model_or_no_weights_are_refused(module: str, tmp_path: Path) -> None:
    write_npz({"params": {"Dense_0": {"kernel": np.ones((4, 16), np.float32)}, "more": np.ones(3)}}, tmp_path / "a.npz")
    refusals: dict[str, tuple[str, dict[str, Any]]] = {
        "no weights in it": ("bare", {}),
        "missing: .*too many: params.more": ("bare", {"weights": str(tmp_path / "a.npz"), "inputs": ("x=FP32[n,4]",)}),
        "missing: .*too many: params": ("mlp", {"weights": str(tmp_path / "a.npz")}),
        "expected a function of arrays": ("wrong", {}),
        "failed: ValueError: no such luck": ("broken", {}),
        "failed: AttributeError": ("nothing", {}),
        "takes rngs": ("Mlp", {}),
        "does not say what it takes: .*--input": ("plain", {}),
        "does not run on x": ("plain", {"inputs": ("x=FP32[n,5]",)}),
    }
    for number, (match, (factory, options)) in enumerate(refusals.items()):
        with pytest.raises(RefusedError, match=match):
            conversion(module, factory, tmp_path / str(number), **options)


def test_files_that_are_no_weights_are_refused_and_no_pickle_is_opened(module: str, tmp_path: Path) -> None:
    planted = np.empty(1, object)
    planted[0] = Planted(tmp_path / "planted")
    np.savez(tmp_path / "pickled.npz", **{"params/a": planted})
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 9)
    whole = tmp_path / "whole.npz"
    write_npz({"a": np.ones(400, np.float32)}, whole)
    (tmp_path / "cut.npz").write_bytes(whole.read_bytes()[:900])
    for index, name in enumerate(("pickled.npz", "noise", "cut.npz")):
        with pytest.raises(RefusedError, match="no file of weights"):
            conversion(module, "bare", tmp_path / str(index), weights=str(tmp_path / name))
    assert not (tmp_path / "planted").exists()


class Planted:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.path,))


def test_a_serialised_export_is_known_by_its_bytes_and_refused_with_the_way_out(tmp_path: Path) -> None:
    shape = jax.ShapeDtypeStruct((2, 3), np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(jax.export.export(jax.jit(lambda x: x + 1))(shape).serialize())
    detected = detect(path)
    assert detected.format == "jax-export"
    assert "module:factory" in detected.refusal


def test_weights_of_flax_alone_are_refused_with_the_way_out(tmp_path: Path) -> None:
    write_msgpack({"params": {"Dense_0": {"kernel": np.ones((2, 3), np.float32)}}}, tmp_path / "flax")
    detected = detect(tmp_path / "flax")
    assert detected.format == "flax-weights"
    assert "--weights" in detected.refusal


def test_a_program_that_never_ends_is_given_up(module: str, tmp_path: Path) -> None:
    detected = Detected(format="code", what="code", facts={"module": module, "factory": "forever"})
    with isolation.workplace() as work:
        job = Job(
            source=f"{module}:forever", detected=detected, framework="jax", folder=str(work / "bundle"),
            options=Options(inputs=("x=FP32[n,2]",)), code_folder=str(tmp_path),
        )  # fmt: skip
        with pytest.raises(RefusedError, match="given up after 60 s"):
            isolation.run(job, Limits(seconds=60))
