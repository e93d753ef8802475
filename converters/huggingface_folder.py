"""What a Hugging Face folder says of itself, read without Transformers: its JSON files, within bounds. Pure."""

from pathlib import Path
from typing import Any, NamedTuple

from appliance.core.errors import RefusedError
from converters.content import Content


class Module(NamedTuple):
    """A step of sentence-transformers: its class without the package, its own settings and folder."""

    kind: str
    config: dict[str, Any]
    folder: Path


class Folder(NamedTuple):
    """`modules` are those behind the transformer; none where the folder is not of sentence-transformers."""

    model_folder: Path
    config: dict[str, Any]
    modules: tuple[Module, ...] = ()
    sentence: dict[str, Any] = {}  # noqa: RUF012
    prompt: str = ""
    processor: dict[str, Any] = {}  # noqa: RUF012

    @property
    def architecture(self) -> str:
        named = self.config.get("architectures")
        return str(named[0]) if isinstance(named, list) and named else ""

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type", ""))

    @property
    def own_code(self) -> bool:
        return bool(self.config.get("auto_map"))


def read_folder(source: Path) -> Folder:
    """Raises RefusedError where the folder's files do not go together."""
    content = Content(source)
    modules = _modules(content)
    first = modules[0] if modules else None
    if first is not None and first.kind not in ("Transformer", "BERT", "RoBERTa", "XLMRoBERTa"):
        raise RefusedError(f"its first module is {first.kind}: sentence-transformers' Transformer is taken")
    model_folder = first.folder if first else source
    inner = Content(model_folder)
    config = _table(inner, "config.json")
    if not config:
        raise RefusedError("the folder has no config.json that can be read")
    sentence_files = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")
    sentence: dict[str, Any] = next((found for name in sentence_files if (found := _table(inner, name))), {})
    return Folder(
        model_folder=model_folder,
        config=config,
        modules=tuple(modules[1:]),
        sentence=sentence,
        prompt=_prompt(content) if modules else "",
        processor=_table(inner, "preprocessor_config.json"),
    )


def _modules(content: Content) -> list[Module]:
    listed = content.json_entry("modules.json")
    if listed is None:
        return []
    try:
        found = sorted(listed, key=lambda row: int(row["idx"]))
        modules = []
        for row in found:
            path = str(row["path"])
            folder = content.path / path
            if ".." in Path(path).parts or Path(path).is_absolute():
                raise RefusedError("modules.json leads out of its folder")
            kind = str(row["type"]).rpartition(".")[2]
            modules.append(Module(kind, _table(Content(folder), "config.json") if folder.is_dir() else {}, folder))
        return modules
    except (TypeError, KeyError, ValueError):
        raise RefusedError("modules.json is not as sentence-transformers writes it") from None


def _prompt(content: Content) -> str:
    """What is put before every text when nothing else is asked for."""
    config = _table(content, "config_sentence_transformers.json")
    prompts, name = config.get("prompts"), config.get("default_prompt_name")
    return str(prompts.get(name, "")) if isinstance(prompts, dict) and name else ""


def _table(content: Content, name: str) -> dict[str, Any]:
    found = content.json_entry(name)
    return found if isinstance(found, dict) else {}
