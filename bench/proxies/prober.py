"""Tells which endpoint a Service leads a client to: a server, and a client that asks it.

Both know nothing of what carries the Service. `serve PORT` answers each connection with the address that it came to.
`ask` reads a line of JSON at a time and answers with one: which endpoint a client gets, or when it first got another.
Run in network namespaces of the benchmark.
"""

import contextlib
import socket
import sys
import time

import msgspec

POLL_SECONDS = 0.002
"""Between two attempts of a client."""
TIMEOUT_SECONDS = 0.25
"""Of one attempt."""
_ADDRESS_BYTES = 40


class Question(msgspec.Struct):
    source: str
    """The client's address."""
    service: str
    port: int
    other_than: str = ""
    """Ask until the answer is none of this."""
    seconds: float = 5.0
    """For so long at most."""


class Answer(msgspec.Struct):
    endpoint: str
    """Empty: none within the time."""
    at: float = 0.0
    """When it came, by the monotonic clock."""


def ask(question: Question) -> Answer:
    """An endpoint that the client is led to, other than the one that is given."""
    deadline = time.monotonic() + question.seconds
    while True:
        endpoint = _connect(question)
        now = time.monotonic()
        if endpoint not in ("", question.other_than):
            return Answer(endpoint, now)
        if now > deadline:
            return Answer("", now)
        time.sleep(POLL_SECONDS)


def _connect(question: Question) -> str:
    with contextlib.suppress(OSError), socket.socket() as client:
        client.settimeout(TIMEOUT_SECONDS)
        client.bind((question.source, 0))
        client.connect((question.service, question.port))
        return client.recv(_ADDRESS_BYTES).decode()
    return ""


def serve(port: int) -> None:
    """Answer until killed."""
    with socket.create_server(("0.0.0.0", port), backlog=1024) as listener:
        print("listening", flush=True)
        while True:
            connection, _ = listener.accept()
            with contextlib.suppress(OSError), connection:
                connection.send(connection.getsockname()[0].encode())


def main(arguments: list[str]) -> None:
    if arguments[0] == "serve":
        serve(int(arguments[1]))
    for line in sys.stdin.buffer:
        answer = ask(msgspec.json.decode(line, type=Question))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
