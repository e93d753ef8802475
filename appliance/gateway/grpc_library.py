"""gRPC's library, told before it is loaded what it cannot be told later. Runs in the gateway; the front's other modules
take `grpc` from here.
"""

import os

# The node starts processes by fork and exec, never to go on with gRPC in them: gRPC's own preparations for forks would
# cost something on each call, and complain of each child on stderr.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio

__all__ = ["grpc"]
