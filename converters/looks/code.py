"""Models given as code: of which framework they are, from what their file imports. Nothing is run or imported."""

import ast
from pathlib import Path

from converters.detected import Detected

MAX_SOURCE_BYTES = 4 * 2**20
_FRAMEWORKS = {"torch": "torch", "jax": "jax", "flax": "jax", "equinox": "jax", "haiku": "jax"}


def code(module: str, factory: str, folder: Path) -> Detected:
    """Whose it is, `module` in `folder` says by its imports; nobody's where it is elsewhere or imports none or both."""
    found = _imported(_source(module, folder))
    return Detected(
        format="code",
        what="a model given as code",
        facts={"module": module, "factory": factory},
        framework=found.pop() if len(found) == 1 else "",
    )


def _source(module: str, folder: Path) -> str:
    place = folder.joinpath(*module.split("."))
    for file in (place.with_suffix(".py"), place / "__init__.py"):
        try:
            if file.is_file() and file.stat().st_size <= MAX_SOURCE_BYTES:
                return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def _imported(source: str) -> set[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {_FRAMEWORKS[top] for name in names if (top := name.partition(".")[0]) in _FRAMEWORKS}
