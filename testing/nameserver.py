"""A name server on loopback, UDP and TCP, whose zone and faults a test writes down."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

SOA = "ns.example.com. admin.example.com. 1 3600 600 86400 {minimum}"


class NameServer:
    """Answers for everything under `example.com`, as a recursive server would."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.port = 0
        self.rcode: dns.rcode.Rcode | None = None
        """Answered to every question in place of records."""
        self.silent = False
        """No question is answered."""
        self.soa: int | None = 60
        """TTL and minimum of the SOA record in empty answers; None: there is none."""
        self.referral = False
        """Empty answers name other servers."""
        self.edns = True
        """Whether it knows EDNS; else questions that use it are answered with FORMERR."""
        self.over_tcp = True
        """Whether a question over TCP is answered; else the connection is closed."""
        self.noise: list[dns.rrset.RRset] = []
        """Records that are in every answer, in its authority section."""
        self.follows = True
        """CNAMEs are followed within the answer."""
        self.asked: list[tuple[str, str, str]] = []
        """Each question: protocol, name, type."""

    def put(self, name: str, type: str, *values: str, ttl: int = 30) -> None:
        """Sets the records of a name (without the last dot); none: it has none of the type."""
        if values:
            self.records[(name, type)] = (ttl, list(values))
        else:
            self.records.pop((name, type), None)

    def answer(self, wire: bytes, protocol: str) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, type = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((protocol, name, type))
        if self.silent:
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if query.edns >= 0 and not self.edns:
            return struct.pack("!HHHHHH", query.id, dns.flags.QR | dns.rcode.FORMERR, 0, 0, 0, 0)
        if self.rcode is not None:
            response.set_rcode(self.rcode)
            return response.to_wire()
        self._fill(response, name, type)
        response.authority += self.noise
        whole = response.to_wire(max_size=65535)
        if protocol == "udp" and len(whole) > (max(512, query.payload) if query.edns >= 0 else 512):
            short = dns.message.make_response(query, recursion_available=True)
            short.flags |= dns.flags.TC
            return short.to_wire()
        return whole

    def _fill(self, response: dns.message.Message, name: str, type: str) -> None:
        while (alias := self.records.get((name, "CNAME"))) and type != "CNAME":
            ttl, values = alias
            response.answer.append(_rrset(name, ttl, "CNAME", values))
            name = values[0].rstrip(".").lower()
            if not self.follows:
                return
        if found := self.records.get((name, type)):
            response.answer.append(_rrset(name, found[0], type, found[1]))
            return
        if all(known != name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.referral:
            response.authority.append(_rrset("example.com", 60, "NS", ["ns.example.com."]))
        elif self.soa is not None:
            response.authority.append(_rrset("example.com", self.soa, "SOA", [SOA.format(minimum=self.soa)]))


def _rrset(name: str, ttl: int, type: str, values: list[str]) -> dns.rrset.RRset:
    return dns.rrset.from_text_list(f"{name}.", ttl, dns.rdataclass.IN, dns.rdatatype.from_text(type), values)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: NameServer) -> None:
        self._server = server
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self._server.answer(data, "udp")
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)


@asynccontextmanager
async def name_server(address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[NameServer]:
    """A server that answers at the same port over UDP and TCP; 0: a free one."""
    server = NameServer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = struct.unpack("!H", await reader.readexactly(2))
                answer = server.answer(await reader.readexactly(length), "tcp")
                if not server.over_tcp:
                    break
                if answer is not None:
                    writer.write(struct.pack("!H", len(answer)) + answer)
                    await writer.drain()
        writer.close()

    tcp = await asyncio.start_server(serve, address, port)
    server.port = tcp.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    datagrams, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(server), local_addr=(address, server.port))
    try:
        yield server
    finally:
        datagrams.close()
        tcp.close()
        await tcp.wait_closed()
