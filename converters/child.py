"""The process of one conversion: confined, it converts, compares, writes test vectors and the record, and ends.

Started by exec with a Job on its stdin and a descriptor for words (job.py) as its argument. What the framework prints
goes to stderr, which the parent keeps the end of. It dies with its parent.
"""

import contextlib
import gc
import os
import sys
from pathlib import Path

# Before any import of numpy or onnxruntime: see appliance/workers/zygote.py.
os.environ.update(ORT_DISABLE_TELEMETRY="1", LC_ALL="C.UTF-8")

import msgspec

from appliance.core.errors import IngleError
from appliance.sandbox import confine
from converters import confinement
from converters.job import Done, Failed, Job, Refused, Step, Word, encode


def main(words_fd: str) -> None:
    """Reads the job, does it, and ends the process at once: threads and exit handlers of a framework have no say."""
    words = int(words_fd)
    confine.die_with_parent()
    # What a framework imports is a million objects that stay: to look through them as often as Python does by itself
    # takes a tenth of a conversion. Still often enough for cycles that hold tensors.
    gc.set_threshold(50_000, 10, 10)
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    if job.code_folder:
        sys.path.insert(0, job.code_folder)
    os.dup2(2, 1)  # a framework that prints must not be taken for an answer

    def say(word: Word) -> None:
        os.write(words, encode(word) + b"\n")

    status = 0
    try:
        say(_outcome(job, say))
    except BrokenPipeError:
        status = 1
    os._exit(status)


def _outcome(job: Job, say: "confinement.SayWord") -> Word:
    try:
        layers = confinement.confine(job, processes=job.processes)
        from converters import conversion

        record = conversion.convert(job, lambda step: say(Step(step)))
        return Done(record, tuple((layer.name, layer.active, layer.detail) for layer in layers))
    except IngleError as error:
        return Refused(error.sentence)
    except MemoryError:
        return Refused(
            "the conversion needs more memory than its limit: raise it with --memory, or use a larger machine"
        )
    except BaseException as error:  # a framework may raise SystemExit, and worse
        with contextlib.suppress(Exception):
            import traceback

            traceback.print_exc()
        return Failed(f"{type(error).__name__}: {' '.join(str(error).split())[:600]}")


if __name__ == "__main__":
    if Path(sys.path[0]).name == "converters":  # `python -m` never puts it there, running the file does
        del sys.path[0]
    main(*sys.argv[1:])
