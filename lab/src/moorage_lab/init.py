"""The first process in the lab's PID namespace: starts the supervisor and, for it, all others; reaps orphans.

Its end ends every process in the namespace (pid_namespaces(7)), so it ends when the supervisor does, for whatever
reason. It has no event loop, so it can be copied (`moorage_lab.forking`), and reaping orphans never takes an exit
status from asyncio. Run it with `python -m moorage_lab.init CHANNEL`, where CHANNEL is the file descriptor of the
channel.
"""

import gc
import importlib
import os
import socket
import sys

from moorage.cli.main import added
from moorage_lab import forking, supervisor

PROGRAMS = (
    *("moorage.cli.node", "moorage.cli.operator"),
    *("moorage_lab.cli.apiserver", "moorage_lab.cli.control", "moorage_lab.cli.names"),
    # What these import only when they are called.
    *("moorage_lab.apiserver.main", "moorage_lab.control.main", "moorage_lab.nameserver"),
)
"""What the programs of a lab consist of."""


def main(channel: int) -> None:
    """Run the supervisor, and what it asks for, to its end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        supervisor.main(channel, theirs)
        return
    theirs.close()
    os.close(channel)
    _import_programs()
    forking.serve(ours)


def _import_programs() -> None:
    """Import what the programs use, while the supervisor makes the networks."""
    for name in PROGRAMS:
        importlib.import_module(name)
    added()
    # A collection of garbage writes into each object that it looks at, and memory that is written is not shared.
    gc.freeze()


if __name__ == "__main__":
    main(int(sys.argv[1]))
