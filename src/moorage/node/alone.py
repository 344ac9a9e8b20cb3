"""One agent on a node."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from moorage.errors import MoorageError

NAME = "moorage-node"


@contextmanager
def alone() -> Iterator[None]:
    """Keep other agents away from this network namespace while the block runs: two would undo what the other did.

    Raises MoorageError if one is there already. It is a Unix socket with an abstract name: these are of a network
    namespace (network_namespaces(7)), as the tables of nftables are, and the kernel takes them back however a process
    ends.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        try:
            held.bind(f"\0{NAME}")
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise MoorageError("a node agent runs here already, in this network namespace; stop it first") from None
        yield
