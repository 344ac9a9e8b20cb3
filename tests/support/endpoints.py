"""A program for a network namespace: endpoints that say who they are.

Every address given listens for TCP and UDP on the port and answers each connection, and then each piece of data and
each datagram, with its own address and a newline. `ready` is printed once all listen; it ends with standard input.

It is started for each of many tests, so it imports little: with asyncio it would start in four times the time.
"""

import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, DefaultSelector

_selector = DefaultSelector()


def serve(port: int, addresses: list[str]) -> None:
    for address in addresses:
        family, name = socket.AF_INET6 if ":" in address else socket.AF_INET, f"{address}\n".encode()
        listener, datagrams = (
            socket.create_server((address, port), family=family),
            socket.socket(family, socket.SOCK_DGRAM),
        )
        datagrams.bind((address, port))
        _on_readable(listener, partial(_greet, listener, name))
        _on_readable(datagrams, partial(_answer_datagram, datagrams, name))
    print("ready", flush=True)
    _selector.register(sys.stdin, EVENT_READ)
    while True:
        for key, _ in _selector.select():
            if key.fileobj is sys.stdin:
                if not os.read(0, 100):
                    return
            else:
                # Who asked may be gone, or have been reset, by now.
                with suppress(BlockingIOError, ConnectionError):
                    key.data()


def _on_readable(made: socket.socket, do: Callable[[], None]) -> None:
    made.setblocking(False)
    _selector.register(made, EVENT_READ, do)


def _greet(listener: socket.socket, name: bytes) -> None:
    made, _ = listener.accept()
    _on_readable(made, partial(_answer, made, name))
    made.send(name)


def _answer(made: socket.socket, name: bytes) -> None:
    try:
        if made.recv(100):
            made.send(name)
            return
    except ConnectionError:
        pass
    _selector.unregister(made)
    made.close()


def _answer_datagram(datagrams: socket.socket, name: bytes) -> None:
    _, sender = datagrams.recvfrom(100)
    datagrams.sendto(name, sender)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2:])
