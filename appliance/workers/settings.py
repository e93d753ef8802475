"""What an owner can set of the workers. Read by settings.py, which fills it in; handed to the supervisor by node.py."""

from typing import Annotated

import msgspec
from msgspec import Meta


class WorkerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Defaults for every model; a manifest's `[limits]` come before them."""

    idle_s: Annotated[
        float, Meta(ge=0, description="a worker without calls for this many seconds is ended; 0: as its worth says")
    ] = 0.0
    threads: Annotated[int, Meta(ge=0, description="threads that one worker computes with; 0: the node decides")] = 0
    run_s: Annotated[
        float, Meta(gt=0, description="a worker whose model runs longer than this many seconds at once is killed")
    ] = 30.0
    max_batch: Annotated[
        int, Meta(ge=1, description="the most rows of different calls that one run takes together; 1: no batching")
    ] = 64
    queue: Annotated[int, Meta(ge=1, description="calls that may wait for one model; more are told to come back")] = (
        1024
    )
    sequences: Annotated[
        int, Meta(ge=1, description="sequences of one model whose states are kept at once; more are told to come back")
    ] = 1000
    sequence_idle_s: Annotated[
        float, Meta(gt=0, description="a sequence without calls for this many seconds is dropped")
    ] = 60.0
    tf32: Annotated[
        bool,
        Meta(description="a GPU computes FP32 as TF32: large models run faster, and numbers are off by a thousandth"),
    ] = False
    graph_cache_bytes: Annotated[
        int, Meta(ge=0, description="disk that cached optimised graphs may take together; 0: none are kept")
    ] = 4 * 1024**3
    engine_cache_bytes: Annotated[
        int, Meta(ge=0, description="disk that the engines which TensorRT built may take together; 0: none are kept")
    ] = 16 * 1024**3
