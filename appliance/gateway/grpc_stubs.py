"""The V2 protocol's protobuf messages, from the stubs that ship in tritonclient. Runs in the gateway.

tritonclient.grpc's own `__init__` is a client: it imports numpy, which the gateway's process does without. So the
modules of messages are imported under a bare package of that name, which is taken away again: whoever imports
`tritonclient.grpc` in this process later gets the whole client, with the very same message classes.
"""

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from google.protobuf import message_factory

_PACKAGE = "tritonclient.grpc"


def _import_messages(module: str) -> ModuleType:
    """`tritonclient.grpc.<module>`, without running the package's `__init__` unless that was done before."""
    if _PACKAGE in sys.modules:
        return importlib.import_module(f"{_PACKAGE}.{module}")
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(f"the gRPC front needs {_PACKAGE}: install tritonclient[grpc]", name=_PACKAGE)
    sys.modules[_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        return importlib.import_module(f"{_PACKAGE}.{module}")
    finally:
        del sys.modules[_PACKAGE]
        # Importing binds the bare package in its parent as well.
        vars(sys.modules["tritonclient"]).pop("grpc", None)


# Protobuf makes its classes at run time: there are no types to check these by.
pb: Any = _import_messages("service_pb2")
SERVICE: Any = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


def message_class(descriptor: Any) -> Any:
    """The class of the messages that a descriptor describes."""
    return message_factory.GetMessageClass(descriptor)
