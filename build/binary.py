"""`make binary`: the product as one executable file, with what goes beside it, in a folder.

    python build/binary.py OUT [--level N] [--work FOLDER] [--update-key HEX]

Run by the Python whose packages are to be inside. In order: PyInstaller makes a folder, its libraries are stripped,
what is inside is written down, and all is packed behind the stub; build/sign.py signs it, perhaps elsewhere. Two runs
on one commit and one environment give the same bytes: whatever depends on the day, on a hash's seed or on where the
work lies is set here. build/same.py says whether they do.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import components
import msgspec
import pack
import strip
import sums
from compile_stub import compile_stub

from appliance.core.release import BUILD_FILE, UPDATE_KEY, VERSION, Build

BUILD = Path(__file__).resolve().parent  # and, since this is a script, where its imports come from
ROOT = BUILD.parent


def freeze(work: Path) -> Path:
    """PyInstaller's one-folder build of the working tree."""
    environment = os.environ | {
        "SOURCE_DATE_EPOCH": _commit_time(),
        "PYTHONHASHSEED": "0",
        # zstd packs all of it better, and a module is read sooner, where zlib has not been there before.
        "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "0",
        "PYINSTALLER_CONFIG_DIR": str(work / "pyinstaller"),
    }
    folders = ["--distpath", str(work / "frozen"), "--workpath", str(work)]
    command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN", *folders]
    subprocess.run([*command, str(BUILD / "ingle.spec")], cwd=ROOT, env=environment, check=True)
    in_order(work / "frozen" / "ingle" / "_internal" / "base_library.zip")
    return work / "frozen" / "ingle"


def in_order(library: Path) -> None:
    """Sorts what Python itself starts with: PyInstaller writes it in an order that differs from run to run."""
    with zipfile.ZipFile(library) as written:
        modules = {name: written.read(name) for name in sorted(written.namelist())}
    with zipfile.ZipFile(library, "w") as ordered:
        for name, content in modules.items():
            ordered.writestr(zipfile.ZipInfo(name), content)


def runtime() -> str:
    """Which of the two packages that bring `onnxruntime` is inside."""
    (package,) = set(metadata.packages_distributions()["onnxruntime"])
    return "gpu" if package.endswith("-gpu") else "cpu"


def _commit_time() -> str:
    """In Unix seconds; SOURCE_DATE_EPOCH where there is no git."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return said
    asked = ["git", "log", "-1", "--format=%ct"]
    return subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip() or "0"


def build(out: Path, work: Path, level: int, update_key: str) -> Path:
    """Makes `ingle`, `ingle.cdx.json` and `SHA256SUMS` in `out`; the first. Its updates must be signed with
    `update_key`, in hexadecimal."""
    about = Build(VERSION, int(_commit_time()), update_key, runtime())
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    compile_stub(work / "stub")
    folder = freeze(work)
    inside = components.find(work / "ingle" / "inside.json")
    kept = strip.strip(folder)
    print(f"kept with their symbols, since strip would break them: {', '.join(kept) or 'none'}")
    (folder / "_internal" / "licences.json").write_text(components.licences(inside))
    (folder / "_internal" / BUILD_FILE).write_bytes(msgspec.json.encode(about))
    (out / "ingle.cdx.json").write_text(components.bill_of_materials(inside, _commit_time()))
    pack.pack(folder, work / "stub", out / "ingle", level)
    sums.write(out)
    return out / "ingle"


def main() -> None:
    parser = argparse.ArgumentParser(description="Builds the one file.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--level", type=int, default=pack.BEST, help="zstd's, 3 to be quick")
    parser.add_argument("--work", type=Path, default=ROOT / "dist" / "work")
    parser.add_argument("--update-key", default=UPDATE_KEY, help="whose updates it takes (default: the release key)")
    given = parser.parse_args()
    file = build(given.out, given.work.resolve(), given.level, given.update_key)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
