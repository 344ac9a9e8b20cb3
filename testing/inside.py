"""Sockets of a network namespace that this process is not in."""

import array
import socket
import subprocess
import sys
from collections.abc import Sequence

PYTHON = (sys.executable, "-I", "-S")
"""What runs a program that needs the standard library alone; without `site`, it starts in less time."""

_SECONDS = 60
_NETLINK_NETFILTER = 12
_CODE = """
import array, socket, sys
family, type, protocol, out = map(int, sys.argv[1:])
made = socket.socket(family, type, protocol)
fds = array.array("i", [made.fileno()])
socket.socket(fileno=out).sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
"""


def socket_inside(prefix: Sequence[str], family: int, type: int, protocol: int = 0) -> socket.socket:
    """A socket for use here. `prefix`: the words that run a program inside, as `nsenter --net=FILE` does."""
    ours, theirs = socket.socketpair()
    numbers = [str(int(each)) for each in (family, type, protocol, theirs.fileno())]
    argv = [*prefix, *PYTHON, "-c", _CODE, *numbers]
    with ours, theirs:
        subprocess.run(argv, pass_fds=[theirs.fileno()], timeout=_SECONDS, check=True)
        _, ancillary, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4))
    return socket.socket(fileno=array.array("i", ancillary[0][2])[0])


def netlink_inside(prefix: Sequence[str]) -> socket.socket:
    """A socket to the namespace's netfilter."""
    return socket_inside(prefix, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
