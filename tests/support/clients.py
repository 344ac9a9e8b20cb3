"""A program for a network namespace: clients that do as they are told.

Requests come as JSON lines on standard input, answers go as JSON lines to standard output:

- `["tcp", source, address, port]`: connect, read who answers, close: the answer, or `refused`, `timed out`, ...
- `["open", name, source, address, port]`: the same, but the connection stays open under that name.
- `["say", name]`: send on an open connection: who answers, or `reset`, `timed out`.
- `["read", name]`: wait for something on an open connection, and send nothing: as `say`.
- `["close", name]`: close an open connection.
- `["udp", source, source port (0: any), address, port]`: send one datagram: who answers, or how that failed.
- `["send", source, source port, address, port]`: send one datagram, for an answer to which nobody waits: `sent`.
"""

import errno
import json
import socket
import sys

SECONDS = 20.0
"""A lost SYN is sent again after a second, and then after longer."""
_WORDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.EPIPE: "reset",
    errno.EHOSTUNREACH: "no route",
    errno.ENETUNREACH: "no route",
}
_open: dict[str, socket.socket] = {}


def answer(request: list[object]) -> str:
    try:
        match request:
            case ["tcp", str(source), str(address), int(port)]:
                with _connect(source, address, port) as made:
                    return _read(made)
            case ["open", str(name), str(source), str(address), int(port)]:
                _open[name] = _connect(source, address, port)
                return _read(_open[name])
            case ["say", str(name)]:
                _open[name].sendall(b"x")
                return _read(_open[name])
            case ["read", str(name)]:
                return _read(_open[name])
            case ["close", str(name)]:
                _open.pop(name).close()
                return "closed"
            case ["udp" | "send" as what, str(source), int(source_port), str(address), int(port)]:
                with _socket(source, source_port, socket.SOCK_DGRAM) as made:
                    made.connect((address, port))
                    made.send(b"x")
                    return _read(made) if what == "udp" else "sent"
    except TimeoutError:
        return "timed out"
    except OSError as error:
        return _WORDS.get(error.errno or 0, str(error))
    return f"no such request: {request}"


def _socket(source: str, port: int, kind: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET, kind)
    made.settimeout(SECONDS)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((source, port))
    return made


def _connect(source: str, address: str, port: int) -> socket.socket:
    made = _socket(source, 0, socket.SOCK_STREAM)
    try:
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def _read(made: socket.socket) -> str:
    said = made.recv(100).decode().strip()
    return said or "closed by the other end"


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
