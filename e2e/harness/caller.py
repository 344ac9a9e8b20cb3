"""A pod's client, which gets this text on Python's command line: who answers its connections. Standard library only.

caller.py ADDRESS PORT SECONDS

It keeps one connection open and asks after so many seconds, again and again. It prints with the time: `begins`, the
name of who answers a new connection, and `ended: ...` when one ends. Then it connects again.
"""

import socket
import sys
import time

PATIENT_SECONDS = 60.0
"""How long a connection may take to be made."""
ANSWER_SECONDS = 5.0


def say(what: str) -> None:
    print(f"{time.time():.3f} {what}", flush=True)


def call(address: str, port: str, seconds: str) -> str:
    """Why it ended."""
    try:
        with socket.create_connection((address, int(port)), PATIENT_SECONDS) as connection:
            connection.settimeout(ANSWER_SECONDS)
            with connection.makefile() as lines:
                name = lines.readline()
                say(name.strip())
                while name:
                    time.sleep(float(seconds))
                    connection.sendall(b"\n")
                    name = lines.readline()
    except OSError as error:
        return str(error)
    return "closed"


def main(*arguments: str) -> None:
    say("begins")
    while True:
        say(f"ended: {call(*arguments)}")
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
