"""The first process in the lab's PID namespace: starts the supervisor and reaps what others leave.

Its end ends every process of the namespace (pid_namespaces(7)), so it ends with the supervisor, however that ends.
It is a process of its own so that reaping orphans never takes an exit status from asyncio. Run by
`python -m moorage_lab.init CHANNEL`, the file descriptor of the channel's end.
"""

import os
import sys


def main(channel: int) -> int:
    """Run the supervisor to its end and return its exit status (128 + signal if one ended it)."""
    supervisor = os.fork()
    if supervisor == 0:
        from moorage_lab.supervisor import main as supervise

        supervise(channel)
        return 0
    os.close(channel)
    while True:
        pid, status = os.wait()
        if pid == supervisor:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
