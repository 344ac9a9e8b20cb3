"""The name server of the lab's internet: `zone`'s answers over UDP and TCP (RFC 1035, RFC 7766)."""

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import dns.exception
import dns.message

from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage_lab.zone import Zone

PORT = 53
MAX_MESSAGE_BYTES = 65535
"""Over TCP, whatever datagram size the query allows."""
IDLE_SECONDS = 5.0
"""How long a connection may be silent."""

_log = get_logger("moorage_lab.nameserver")


class ZoneFile:
    """The records in a file, read again when it changes. No file means no records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_as: tuple[int, ...] = ()
        self._zone = Zone()

    def zone(self) -> Zone:
        """The records in the file now. If it cannot be read, the last ones stay."""
        try:
            found = os.stat(self._path)
            read_as: tuple[int, ...] = (found.st_ino, found.st_mtime_ns, found.st_size)
            if read_as != self._read_as:
                self._zone, self._read_as = Zone.read(self._path.read_text()), read_as
        except FileNotFoundError:
            self._zone, self._read_as = Zone(), ()
        except (OSError, UnicodeDecodeError, MoorageError) as error:
            _log.warning("names cannot be read", file=str(self._path), error=str(error))
        return self._zone


async def serve(addresses: Sequence[str], path: Path, port: int = PORT) -> None:
    """Answer on these addresses until SIGTERM or SIGINT. Raises OSError if it cannot listen."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    names = ZoneFile(path)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(IDLE_SECONDS):
                while True:
                    size = int.from_bytes(await reader.readexactly(2))
                    query = dns.message.from_wire(await reader.readexactly(size))
                    writer.write(names.zone().answer(query).to_wire(max_size=MAX_MESSAGE_BYTES, prepend_length=True))
                    await writer.drain()
        except (asyncio.IncompleteReadError, OSError, dns.exception.DNSException):
            pass  # the client has gone, is silent, or speaks something else
        finally:
            writer.close()

    for address in addresses:
        await loop.create_datagram_endpoint(lambda: _Datagrams(names), local_addr=(address, port))
        await asyncio.start_server(connected, address, port)
    await stop.wait()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, names: ZoneFile) -> None:
        self._names = names

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[object, ...]) -> None:
        with suppress(dns.exception.DNSException):  # no query
            self._transport.sendto(self._names.zone().answer_datagram(data), addr)
