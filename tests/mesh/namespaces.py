"""Network namespaces without names: one lives as long as a descriptor of it or a process in it does.

So two runs cannot collide, and nothing is left behind however a run ends. Needs root. Runs in the test's process; a
thread is in one namespace, and what it opens or starts there stays there.
"""

import contextlib
import ctypes
import os
from collections.abc import Iterator

from tests.mesh import interfaces

_CLONE_NEWNET = 0x40000000
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns() and os.unshare() are newer than Python 3.11


def _checked(result: int, what: str) -> None:
    if result:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


class Namespace:
    """A network of its own, of which only loopback is up."""

    def __init__(self) -> None:
        with _coming_back():
            _checked(_libc.unshare(_CLONE_NEWNET), "a network namespace could not be made")
            self._descriptor = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
            interfaces.set_ipv6("disable_ipv6", 0)
            interfaces.set_ipv6("accept_dad", 0)
            interfaces.bring_up("lo")

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is in it meanwhile: sockets that it makes and processes that it starts."""
        with _coming_back():
            _checked(_libc.setns(self._descriptor, _CLONE_NEWNET), "the network namespace could not be entered")
            yield

    def close(self) -> None:
        os.close(self._descriptor)


@contextlib.contextmanager
def _coming_back() -> Iterator[None]:
    here = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield
    finally:
        _checked(_libc.setns(here, _CLONE_NEWNET), "the way back out of a network namespace is lost")
        os.close(here)


def why_not() -> str:
    """Why this process cannot make namespaces with interfaces, as a sentence; empty where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root, and this is another user"
    if not interfaces.IPV6.exists():
        return "this kernel has no IPv6"
    try:
        namespace = Namespace()
    except OSError as error:
        return str(error)
    try:
        with namespace.entered():
            os.close(interfaces.open_tap("try0"))
    except OSError as error:
        return f"a TAP could not be made with {interfaces.TUN}: {error}"
    finally:
        namespace.close()
    return ""
