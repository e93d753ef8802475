"""Small models that take texts, as converters make them: a tokenizer, and a graph over its tokens."""

import io
import json
import zipfile
from typing import Any

import onnx
from onnx import parser
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "cafe", "good", "bad", "day", "##s", "a", "🙂", "paris"]
HEAD = '<ir_version: 10, opset_import: ["" : 21, "ai.onnx.ml" : 3]>\n'
# A row for each word: how good, how bad, how long. The filling's is large, so that it would show.
TABLE = [[90, 90, 90], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 4], [2, 0, 4], [0, 2, 3], [0, 0, 3], [0, 0, 1]]
TABLE += [[0, 0, 1], [1, 0, 1], [0, 1, 5]]
_NUMBERS = ", ".join(str(number) for row in TABLE for number in row)
_CONSTANTS = f"<float[{len(WORDS)},3] table = {{{_NUMBERS}}}, int64[1] one = {{1}}, int64[1] two = {{2}}>\n"
_TOKENS = "int64[N,T] input_ids, int64[N,T] attention_mask"
_SEEN = """rows = Gather(table, input_ids)
mask = Cast <to=1> (attention_mask)
masked = Unsqueeze(mask, two)
seen = Mul(rows, masked)
"""
# The mean of the words' rows.
MEAN = f"g ({_TOKENS}) => (float[N,3] embedding)\n{_CONSTANTS}{{{_SEEN}total = ReduceSum <keepdims=0> (seen, one)\n"
MEAN += "count = ReduceSum(mask, one)\nembedding = Div(total, count)}"
# Each word's row.
EACH = f"g ({_TOKENS}) => (float[N,T,3] words)\n{_CONSTANTS}{{{_SEEN}words = Identity(seen)}}"
# The mean with the filling counted in: it answers otherwise in company.
UNMASKED = f"g (int64[N,T] input_ids) => (float[N,3] embedding)\n{_CONSTANTS}{{rows = Gather(table, input_ids)\n"
UNMASKED += "embedding = ReduceMean <keepdims=0> (rows, one)}"
# How often each of three words is there, of words and no tokens.
_THREE = 'ai.onnx.ml.LabelEncoder <keys_strings = ["good", "bad", ""], default_int64 = 0, values_int64s'
COUNTS = f"""g (string[N,T] words, int64[N,T] present) => (float[N,3] counts)
<float none = {{0.0}}, int64[1] three = {{3}}>
{{slots = {_THREE} = [0, 1, 2]> (words)
known = {_THREE} = [1, 1, 1]> (words)
seen = Mul(present, known)
added = Cast <to=1> (seen)
rows = Shape <end=1> (words)
shape = Concat <axis=0> (rows, three)
zeros = Expand(none, shape)
counts = ScatterElements <axis=1, reduction="add"> (zeros, slots, added)}}"""
WORDS_OF_TEXT = """[[input]]
name = "text"
as = "text"
ids = "words"
mask = "present"
words = {pattern = '\\s', shortest = 0}
"""
TEXT = '[[input]]\nname = "text"\nas = "text"\ntokenizer = "tokenizer.json"\nmax_tokens = 8\n'


def tokenizer() -> Tokenizer:
    """Words in lower case without accents, between [CLS] and [SEP]."""
    made = Tokenizer(models.WordPiece({word: index for index, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.add_special_tokens(WORDS[:4])
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return made


def changed(**parts: Any) -> str:
    """The tokenizer's file with some of its members exchanged."""
    return json.dumps({**json.loads(tokenizer().to_str()), **parts})


def model(text: str = MEAN) -> onnx.ModelProto:
    return parser.parse_model(HEAD + text)


def text_bundle(graph: str = MEAN, manifest: str = TEXT, file: str | bytes | None = "") -> bytes:
    """A bundle of a model that takes texts. `file` is its tokenizer.json, None leaves it out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model.onnx", model(graph).SerializeToString())
        archive.writestr("manifest.toml", manifest)
        if file is not None:
            archive.writestr("tokenizer.json", file or tokenizer().to_str())
    return out.getvalue()
