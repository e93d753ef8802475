"""The boundary to onnxruntime: every session is opened here, with the options that this node wants.

Runs in forked children, after the fork. Knows nothing of calls, frames or what a model is for.
"""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime

# Weights below this stay in the graph's own file: a mapping takes a page at least.
EXTERNAL_FROM_BYTES = 1024


def open_session(
    model: Path,
    *,
    threads: int,
    providers: Sequence[str],
    optimised: bool = False,
    write_to: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on a model's file. `optimised`: the graph is one that was written with `write_to`, and is run as it is.
    `write_to`: the optimised graph is written there, its weights beside it as `<name>.data`.

    Raises whatever onnxruntime raises, which is a dozen unrelated classes.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would burn the cores that the fronts and other models need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if optimised:
        # Nodes in the processor's own memory layout are in the graph already, and stay.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if write_to is not None:
        options.optimized_model_filepath = str(write_to)
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_file_name", f"{write_to.name}.data"
        )
        options.add_session_config_entry(
            "session.optimized_model_external_initializers_min_size_in_bytes", str(EXTERNAL_FROM_BYTES)
        )
    return onnxruntime.InferenceSession(str(model), options, providers=list(providers))
