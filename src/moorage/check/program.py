"""What the pods of a trial run, which get this text on Python's command line. The standard library only.

`serve NAME PORT` answers each connection with its name; `ask FILE SECONDS WAYS` says who answers.
"""

import json
import socket
import sys
import time

Row = tuple[dict[str, int], int, str]
CONNECTIONS = 30
"""In a row, one after the other. Of two endpoints, chance picks the right one each time once in 1,000,000,000."""
MAX_FAILED = 3
"""Of them, before the others are not tried."""
CONNECT_SECONDS = 1.0
AGAIN_SECONDS = 0.5


def serve(name: str, port: str) -> None:
    """Until the process is ended."""
    with listening(int(port)) as server:
        while True:
            connection, _ = server.accept()
            with connection:
                try:
                    connection.sendall(f"{name}\n".encode())
                except OSError:  # a probe has closed it
                    continue


def listening(port: int) -> socket.socket:
    """On all addresses; of IPv4 alone where there is no IPv6."""
    try:
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    except (OSError, ValueError):
        return socket.create_server(("", port))


def ask(file: str, seconds: str, ways: str) -> None:
    """Connect to Services until all connections of a row go where they should, and else for so many seconds.

    `ways`: JSON, the name of each Service -> its address, its port, and who should answer. Writes the last row of
    each to the file: JSON, the name of the Service -> what `row` returns.
    """
    end = time.monotonic() + float(seconds)
    pending: dict[str, tuple[str, int, str]] = json.loads(ways)
    found: dict[str, Row] = {}
    while True:
        for name, (address, port, expected) in [*pending.items()]:
            found[name] = row(address, port)
            if found[name][0] == {expected: CONNECTIONS}:
                del pending[name]
        if not pending or time.monotonic() > end:
            break
        time.sleep(AGAIN_SECONDS)
    with open(file, "w") as message:
        json.dump(found, message)


def row(address: str, port: int) -> Row:
    """Connect so many times: who answered how many of them, how many failed, and why the last one of these did."""
    answers: dict[str, int] = {}
    failed, why = 0, ""
    for _ in range(CONNECTIONS):
        try:
            with socket.create_connection((address, port), CONNECT_SECONDS) as connection:
                name = connection.makefile().readline().strip()
            answers[name] = answers.get(name, 0) + 1
        except OSError as error:
            failed, why = failed + 1, str(error)
            if failed == MAX_FAILED:
                break
    return answers, failed, why


if __name__ == "__main__":
    verb, *words = sys.argv[1:]
    if verb == "serve":
        serve(*words)
    else:
        ask(*words)
