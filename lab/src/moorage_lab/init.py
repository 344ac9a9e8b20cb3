"""The first process in the lab's PID namespace: starts the supervisor and reaps orphans.

Its end ends every process in the namespace (pid_namespaces(7)), so it ends when the supervisor does, for whatever
reason. It is a separate process so that reaping orphans never takes an exit status from asyncio. Run it with
`python -m moorage_lab.init CHANNEL`, where CHANNEL is the file descriptor of the channel.
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
