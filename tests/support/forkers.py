"""A process that forks programs, as the lab's first process does."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from moorage_lab.forking import serve


@contextmanager
def forking_process() -> Iterator[tuple[int, socket.socket]]:
    """Its process id, and the end for a `Forker`, which closes it. What it has started should have ended by then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        try:
            theirs.close()
            # Not pytest's own, which do not write to the file descriptors 1 and 2.
            sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__
            serve(ours)
        finally:
            os._exit(0)
    ours.close()
    try:
        yield pid, theirs
    finally:
        theirs.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
