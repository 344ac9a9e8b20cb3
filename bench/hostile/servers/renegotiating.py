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

_REQUEST_PERIOD_SECONDS = 0.01
"""Seconds between two requests for a new handshake."""
_RESTART_SECONDS = 0.1
"""Seconds until a server that ended is started again."""
_LISTENING = b"ACCEPT"
_BEGUN, _ENDED = b"CIPHER is", (b"CONNECTION CLOSED", b"ERROR", b"shutting down", b"DONE", _LISTENING)
"""What it prints. One that is asked before the first handshake is over closes the connection."""


class _Server:
    """Started again whenever it ends: `s_server` does where a client does not heed it."""

    def __init__(self, address: str, port: str, chain: str, key: str) -> None:
        # Without sessions to resume, each handshake is a whole one.
        argv = ["openssl", "s_server", "-accept", f"{address}:{port}", "-tls1_2", "-no_ticket", "-no_cache"]
        self._argv = [*argv, "-cert", chain, "-cert_chain", chain, "-key", key]
        self.listening = threading.Event()
        self._connected = self._ends = False
        self._process = self._start()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def ask(self) -> None:
        process = self._process
        if self._connected and process.stdin is not None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(process.stdin.fileno(), b"r\n")

    def end(self) -> None:
        self._ends = True
        self._process.kill()
        self._thread.join()

    def _start(self) -> subprocess.Popen[bytes]:
        made = subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert made.stdin is not None
        os.set_blocking(made.stdin.fileno(), False)
        return made

    def _run(self) -> None:
        while True:
            self._follow(self._process)
            self._process.wait()
            if self._ends:
                return
            time.sleep(_RESTART_SECONDS)
            self._process = self._start()
            if self._ends:
                self._process.kill()

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(_BEGUN):
                self._connected = True
            elif line.startswith(_ENDED):
                self._connected = False
            if line.startswith(_LISTENING):
                self.listening.set()
        self._connected = False


def main(chain: str, key: str, port: str, *addresses: str) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    servers = [_Server(address, port, chain, key) for address in addresses]
    if all(server.listening.wait(10) for server in servers):
        print("listening", flush=True)
    try:
        while True:
            for server in servers:
                server.ask()
            time.sleep(_REQUEST_PERIOD_SECONDS)
    finally:
        for server in servers:
            server.end()


if __name__ == "__main__":
    main(*sys.argv[1:])
