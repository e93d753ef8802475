"""What an owner can set of the fronts. Read by settings.py, which fills it in; handed to the gateway by node.py."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta


class GatewaySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that every front keeps. Deploys are streamed to disk and have no bound of their own."""

    max_body_bytes: Annotated[int, Meta(ge=1024, description="the largest call taken, whichever front it comes by")] = (
        256 * 2**20
    )
    max_held_bytes: Annotated[
        int,
        Meta(ge=0, description="bytes of calls that the node holds at once, over all; 0: an eighth of the memory"),
    ] = 0
    max_connections: Annotated[
        int,
        Meta(ge=1, description="connections at once to HTTP, and to gRPC, if the limit on descriptors allows as many"),
    ] = 10_000
    max_uploads: Annotated[int, Meta(ge=1, description="models that are being uploaded or checked at once")] = 8
    default_deadline_s: Annotated[
        float, Meta(gt=0, description="how many seconds a call may take when the caller gives no deadline")
    ] = 60.0
    drain_s: Annotated[
        float,
        Meta(ge=0, description="how many seconds calls in flight may take to finish when the node ends"),
    ] = 30.0
    trusted_keys: Annotated[
        Path | None,
        Meta(description="a file of public keys, one a line: bundles must be signed by one of them; unset: by nobody"),
    ] = None
