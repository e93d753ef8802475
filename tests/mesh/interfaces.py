"""A network interface of the calling thread's network namespace: made, addressed and brought up without iproute2.

By ioctl and netlink, so a machine with only Python can do it. Needs root, and /dev/net/tun for a TAP. Knows nothing of
namespaces, hosts and meshes. Constants and layouts are those of Linux's sockios.h, if_tun.h, if.h, route.h, rtnetlink.h
and if_link.h.
"""

import ctypes
import fcntl
import ipaddress
import os
import socket
import struct
from pathlib import Path

TUN, IPV6 = Path("/dev/net/tun"), Path("/proc/sys/net/ipv6")
# What a frame read from a TAP or written to it begins with: struct virtio_net_hdr.
HEADER_BYTES = 10

_SIOCADDRT, _SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x890B, 0x8913, 0x8914
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFHWADDR = 0x8916, 0x891C, 0x8924
_TUNSETIFF, _TUNSETOFFLOAD = 0x400454CA, 0x400454D0
_IFF_UP, _IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x1, 0x2, 0x1000, 0x4000
_CHECKSUMS, _LARGE_FRAMES = 0x1, 0x2 | 0x4
_ETHERNET, _ROUTE_UP = 1, 0x1
_RTM_SETLINK, _RTM_NEWADDR, _NLM_REQUEST_ACK_CREATE, _NLMSG_ERROR = 19, 20, 0x405, 2
_IFA_ADDRESS, _IFA_F_NODAD = 1, 0x2
_IFLA_GSO_MAX_SIZE, _IFLA_GSO_IPV4_MAX_SIZE = 41, 63


def open_tap(name: str) -> int:
    """Makes a TAP of this name here; it is gone when the last descriptor of it is closed. Frames are read and written
    whole, each after a header of HEADER_BYTES, up to 64 KiB long: the kernel need not cut them into segments."""
    tap = os.open(TUN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    carry_large_frames(tap, large=True)
    return tap


def carry_large_frames(tap: int, *, large: bool) -> None:
    """Whether the kernel hands over frames of many segments, which is quick, or single ones, of which each can be lost
    by itself."""
    fcntl.ioctl(tap, _TUNSETOFFLOAD, _CHECKSUMS | (_LARGE_FRAMES if large else 0))


def limit_frames(name: str, size_bytes: int) -> None:
    """The most that one frame of many segments holds, of connections that are made later."""
    message = struct.pack("=BxHiII", socket.AF_UNSPEC, 0, socket.if_nametoindex(name), 0, 0)
    for attribute in (_IFLA_GSO_MAX_SIZE, _IFLA_GSO_IPV4_MAX_SIZE):
        message += struct.pack("=HHI", 8, attribute, size_bytes)
    _ask_kernel(_RTM_SETLINK, message, f"the frames of {name} could not be limited")


def _ask_kernel(kind: int, message: bytes, what: str) -> None:
    """One message of rtnetlink. Raises OSError, beginning with `what`, where the kernel refuses."""
    head = struct.pack("=IHHII", 16 + len(message), kind, _NLM_REQUEST_ACK_CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as asked:
        asked.send(head + message)
        _, answered, _, _, _, error = struct.unpack_from("=IHHIIi", asked.recv(4096))
    if answered != _NLMSG_ERROR or error:
        raise OSError(-error, f"{what}: {os.strerror(-error)}")


def bring_up(name: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        request = struct.pack("16sH22x", name.encode(), 0)
        flags = struct.unpack_from("16sH", fcntl.ioctl(asked, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(asked, _SIOCSIFFLAGS, struct.pack("16sH22x", name.encode(), flags | _IFF_UP))


def set_hardware_address(name: str, address: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, _SIOCSIFHWADDR, struct.pack("16sH14s8x", name.encode(), _ETHERNET, address))


def add_ipv4(name: str, address: ipaddress.IPv4Interface) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for request, value in ((_SIOCSIFADDR, address.ip), (_SIOCSIFNETMASK, address.netmask)):
            fcntl.ioctl(asked, request, struct.pack("16s16s8x", name.encode(), _ipv4(value)))


def add_ipv6(name: str, address: ipaddress.IPv6Interface) -> None:
    """Usable at once: nobody is asked whether he has it too."""
    head = (socket.AF_INET6, address.network.prefixlen, _IFA_F_NODAD, 0, socket.if_nametoindex(name))
    message = struct.pack("=BBBBI", *head) + struct.pack("=HH16s", 20, _IFA_ADDRESS, address.ip.packed)
    _ask_kernel(_RTM_NEWADDR, message, f"{address} could not be had")


def set_ipv6(setting: str, value: int) -> None:
    """One of IPv6's settings for interfaces that are made later."""
    Path(IPV6, "conf", "default", setting).write_text(str(value))


def add_default_route(name: str) -> None:
    """IPv4 to anywhere leaves by this interface: multicast too, which needs a route where a socket names none."""

    class Route(ctypes.Structure):
        _fields_ = (
            ("pad1", ctypes.c_ulong),
            ("destination", ctypes.c_char * 16),
            ("gateway", ctypes.c_char * 16),
            ("mask", ctypes.c_char * 16),
            ("flags", ctypes.c_ushort),
            ("pad2", ctypes.c_short),
            ("pad3", ctypes.c_ulong),
            ("pad4", ctypes.c_void_p),
            ("metric", ctypes.c_short),
            ("device", ctypes.c_char_p),
            ("mtu", ctypes.c_ulong),
            ("window", ctypes.c_ulong),
            ("irtt", ctypes.c_ushort),
        )

    anywhere = _ipv4(ipaddress.IPv4Address(0))
    route = Route(destination=anywhere, mask=anywhere, flags=_ROUTE_UP, device=name.encode())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        fcntl.ioctl(asked, _SIOCADDRT, route)


def _ipv4(address: ipaddress.IPv4Address) -> bytes:
    return struct.pack("=H2x4s8x", socket.AF_INET, address.packed)
