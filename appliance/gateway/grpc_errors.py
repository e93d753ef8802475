"""The error table in gRPC's words: which status code each fault is answered with. Runs in the gateway.

Knows nothing of methods. A refusal is set on the call's context instead of raised: grpc.aio then drops the empty answer
and sends the status.
"""

import logging
import math
from typing import Any

from appliance.core.errors import IngleError
from appliance.gateway.grpc_library import grpc

STATUS: dict[str, Any] = {
    "internal": grpc.StatusCode.INTERNAL,
    "bad_input": grpc.StatusCode.INVALID_ARGUMENT,
    "unauthenticated": grpc.StatusCode.UNAUTHENTICATED,
    "forbidden": grpc.StatusCode.PERMISSION_DENIED,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "conflict": grpc.StatusCode.ALREADY_EXISTS,
    "sequence_lost": grpc.StatusCode.ABORTED,
    "too_large": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "unsupported": grpc.StatusCode.UNIMPLEMENTED,
    "refused": grpc.StatusCode.INVALID_ARGUMENT,
    "busy": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "worker_failed": grpc.StatusCode.INTERNAL,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
}
# The message travels percent-encoded in the trailers, for which clients take 8 KiB by default.
_LONGEST_SENTENCE = 2000
_LONGEST_PUSHBACK_MS = 2**31 - 1  # clients read it as 32 bits, and what is beyond as "do not come again"

Metadata = tuple[tuple[str, str], ...]
_log = logging.getLogger("ingle.grpc")


def as_ingle_error(error: Exception) -> IngleError:
    """The fault a caller is told about. Anything unexpected is logged here and becomes a plain sentence."""
    if isinstance(error, IngleError):
        return error
    _log.error("a gRPC call failed by a fault in the node", exc_info=error)
    return IngleError("the node failed on this call by a fault of its own: its log has the particulars")


def refuse(context: Any, error: Exception, metadata: Metadata) -> bytes:
    """Set the call's status to this fault, and return the empty answer that goes with it.

    `metadata` is sent as trailing metadata; where the fault says when to try again, gRPC's own word for that is added.
    """
    fault = as_ingle_error(error)
    if fault.call:
        metadata = (("x-ingle-call", fault.call), *metadata)
    if fault.retry_after_s is not None:
        metadata = (
            *metadata,
            ("grpc-retry-pushback-ms", str(min(_LONGEST_PUSHBACK_MS, math.ceil(fault.retry_after_s * 1000)))),
        )
    context.set_code(STATUS.get(fault.code, grpc.StatusCode.INTERNAL))
    context.set_details(fault.sentence[:_LONGEST_SENTENCE])
    context.set_trailing_metadata(metadata)
    return b""
