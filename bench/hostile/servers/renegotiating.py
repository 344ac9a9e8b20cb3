"""TLS 1.2 servers that never end their handshakes: `renegotiating CHAIN KEY PORT ADDRESS...`.

A server may ask for a new handshake at any time (HelloRequest, RFC 5246, 7.4.1.1), and the client that heeds it
verifies the whole chain again. Python's `ssl` cannot ask; `openssl s_server` does, for each line with an `r`.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO

_EVERY = 0.01
"""Seconds between two requests for a new handshake."""
_LISTENING = b"ACCEPT"
_BEGUN, _ENDED = b"CIPHER is", (b"CONNECTION CLOSED", b"ERROR", b"shutting down", b"DONE", _LISTENING)
"""What it prints. One that is asked before the first handshake is over closes the connection."""


class _Server:
    def __init__(self, address: str, port: str, chain: str, key: str) -> None:
        # Without sessions to resume, each handshake is a whole one.
        argv = ["openssl", "s_server", "-accept", f"{address}:{port}", "-tls1_2", "-no_ticket", "-no_cache"]
        self.process = subprocess.Popen(
            [*argv, "-cert", chain, "-cert_chain", chain, "-key", key],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.listening = threading.Event()
        self._connected = False
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._input = self.process.stdin.fileno()
        os.set_blocking(self._input, False)
        threading.Thread(target=self._follow, args=(self.process.stdout,), daemon=True).start()

    def ask(self) -> None:
        if self._connected:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._input, b"r\n")

    def _follow(self, said: IO[bytes]) -> None:
        for line in said:
            if line.startswith(_BEGUN):
                self._connected = True
            elif line.startswith(_ENDED):
                self._connected = False
            if line.startswith(_LISTENING):
                self.listening.set()


def main(chain: str, key: str, port: str, *addresses: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    servers = [_Server(address, port, chain, key) for address in addresses]
    if all(server.listening.wait(10) for server in servers):
        print("listening", flush=True)
    try:
        while True:
            for server in servers:
                server.ask()
            time.sleep(_EVERY)
    finally:
        for server in servers:
            server.process.kill()
        for server in servers:
            server.process.wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
