"""A server that tells who it is, and clients that ask it, started by path. Standard library only.

greeter.py serve NAME ADDRESS PORT       send NAME to whoever connects, and again for each line that comes
greeter.py ask ADDRESS PORT COUNT FROM...  connect COUNT times from each address; print who answered, as JSON
greeter.py hold ADDRESS PORT FROM        connect once, and ask ten times a second until the connection ends
"""

import asyncio
import json
import socket
import sys
import time

_TIMEOUT_SECONDS = 3.0
_PATIENT_SECONDS = 60.0
"""How long a connection that is held may take to be made."""
_HOLD_SECONDS = 300
"""Nobody is held on to for longer."""


async def serve(name: str, address: str, port: str) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(f"{name}\n".encode())
            while await reader.readline():
                writer.write(f"{name}\n".encode())
            writer.close()
        except ConnectionError:
            pass

    server = await asyncio.start_server(greet, address, int(port), backlog=1000)
    print("serving", flush=True)
    await server.serve_forever()


def connected(source: str, address: str, port: str, seconds: float = _TIMEOUT_SECONDS) -> socket.socket:
    return socket.create_connection((address, int(port)), seconds, source_address=(source, 0))


def asked(source: str, address: str, port: str) -> str:
    """The name of the server; what went wrong, where none answered."""
    try:
        with connected(source, address, port) as connection, connection.makefile() as lines:
            return lines.readline().strip()
    except OSError as error:
        return str(error)


def hold(address: str, port: str, source: str) -> str:
    """Why it ended."""
    end = time.monotonic() + _HOLD_SECONDS
    try:
        with connected(source, address, port, _PATIENT_SECONDS) as connection, connection.makefile("rw") as lines:
            connection.settimeout(_TIMEOUT_SECONDS)
            while time.monotonic() < end and (name := lines.readline()):
                print(name.strip(), flush=True)
                time.sleep(0.1)
                print(file=lines, flush=True)
    except OSError as error:
        return str(error)
    return "closed"


def main(what: str, *arguments: str) -> None:
    if what == "serve":
        asyncio.run(serve(*arguments))
    elif what == "ask":
        address, port, count, *sources = arguments
        print(json.dumps({each: [asked(each, address, port) for _ in range(int(count))] for each in sources}))
    else:
        print("ended:", hold(*arguments), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
