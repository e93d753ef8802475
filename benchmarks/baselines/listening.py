"""How a baseline says where it listens: a file, there once it answers. Knows nothing else of the servers."""

from pathlib import Path


def write_ready_file(ready_file: Path, port: int) -> None:
    """`127.0.0.1:PORT` into the file, by rename: a reader sees all of it or none."""
    unfinished = ready_file.with_suffix(".new")
    unfinished.write_text(f"127.0.0.1:{port}")
    unfinished.rename(ready_file)
