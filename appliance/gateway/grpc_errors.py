"""The error table in gRPC's words: which status code each fault is answered with. Runs in the gateway.

Knows nothing of methods. A refusal is set on the call's context instead of raised: grpc.aio then drops the empty answer
and sends the status.
"""

import logging
from typing import Any

from grpc import StatusCode

from appliance.core.errors import IngleError

STATUS: dict[str, StatusCode] = {
    "internal": StatusCode.INTERNAL,
    "bad_input": StatusCode.INVALID_ARGUMENT,
    "unauthenticated": StatusCode.UNAUTHENTICATED,
    "forbidden": StatusCode.PERMISSION_DENIED,
    "not_found": StatusCode.NOT_FOUND,
    "conflict": StatusCode.ALREADY_EXISTS,
    "too_large": StatusCode.RESOURCE_EXHAUSTED,
    "unsupported": StatusCode.UNIMPLEMENTED,
    "refused": StatusCode.INVALID_ARGUMENT,
    "busy": StatusCode.RESOURCE_EXHAUSTED,
    "worker_failed": StatusCode.INTERNAL,
    "unavailable": StatusCode.UNAVAILABLE,
    "deadline": StatusCode.DEADLINE_EXCEEDED,
}
# The message travels percent-encoded in the trailers, for which clients take 8 KiB by default.
_LONGEST_SENTENCE = 2000

Metadata = tuple[tuple[str, str], ...]
_log = logging.getLogger(__name__)


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
        metadata = (*metadata, ("grpc-retry-pushback-ms", str(round(fault.retry_after_s * 1000))))
    context.set_code(STATUS.get(fault.code, StatusCode.INTERNAL))
    context.set_details(fault.sentence[:_LONGEST_SENTENCE])
    context.set_trailing_metadata(metadata)
    return b""
