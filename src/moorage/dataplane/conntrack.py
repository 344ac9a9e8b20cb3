"""The kernel's connection tracking: lists flows, finds those that must end, and ends them.

The `conntrack` tool lists flows. They are deleted over netlink: `conntrack -D` reads the whole table for
each flow that it deletes (10 to 30 ms), and `conntrack -R`, which takes many commands, does so for each of them;
over netlink 5,000 take 0.06 s. There a flow is named by its original addresses and ports and by its id, so that a
new flow on the same ports is left alone (unless the kernel also gave it the old one's memory, which the id is of).
"""

import asyncio
import ipaddress
import re
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from moorage import proc
from moorage.dataplane import netlink
from moorage.dataplane.model import MooringKey, ServiceAddress, Target
from moorage.dataplane.netlink import ACK, ANSWER_SECONDS, BUFFER_BYTES, Connect, attribute, errors, message, nested
from moorage.dataplane.nft import canonical
from moorage.errors import MoorageError

_NUMBERS = {"tcp": 6, "udp": 17}


class Flow(NamedTuple):
    """One tracked connection: the addresses and ports of the client's packets, and of the answers.

    If a flow was sent on to an endpoint, the source of the reply is that endpoint.
    """

    family: int
    """4 or 6."""
    protocol: str
    """`tcp` or `udp`."""
    source: str
    source_port: int
    destination: str
    destination_port: int
    reply_source: str
    reply_source_port: int
    reply_destination: str
    reply_destination_port: int
    state: str | None = None
    """For TCP, the kernel's name of it: `ESTABLISHED`, ..."""
    id: int = 0


class Conntrack(Protocol):
    """The part of connection tracking that Moorage needs."""

    async def flows(self, family: int, source: str | None = None) -> list[Flow]:
        """The TCP and UDP flows of family 4 or 6: those that `source` has opened, or all. Raises MoorageError."""

    async def delete(self, flows: Collection[Flow]) -> int:
        """Delete those flows that still exist; returns how many did. Raises MoorageError."""


Endpoints = Mapping[tuple[str, str, int], Collection[tuple[str, int]]]
"""(address, protocol, port) of a service -> the endpoints, (address, port), that may keep their flows."""


def stale(
    flows: Iterable[Flow], endpoints: Endpoints, moves: Mapping[MooringKey, Collection[Target]] | None = None
) -> list[Flow]:
    """The `flows` to a service in `endpoints` that do not lead to one of its endpoints.

    `moves`: the endpoints that clients have been moved away from: their flows to these are included.

    They include flows that are older than their service: these went to the service's address itself, and as long as
    their client goes on sending (UDP) or repeats its SYN, the kernel does not apply the rules again.
    """
    found = []
    for flow in flows:
        endpoint = (flow.reply_source, flow.reply_source_port)
        kept = endpoints.get((flow.destination, flow.protocol, flow.destination_port))
        has_moved = moves and endpoint in moves.get(MooringKey(flow.source, service_of(flow)), ())
        if has_moved or (kept is not None and endpoint not in kept):
            found.append(flow)
    return found


def service_of(flow: Flow) -> ServiceAddress:
    """What its client connected to."""
    return ServiceAddress(flow.destination, flow.protocol, flow.destination_port)


# --- Listing ------------------------------------------------------------------------------------------------------

_LINE = re.compile(
    r"^(tcp|udp) +\d+ (?:\d+ )?(?:([A-Z0-9_]+) )?"
    r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+) (?:packets=\d+ bytes=\d+ )?(?:\[UNREPLIED\] )?"
    r"src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)\b.*? id=(\d+)",
    re.MULTILINE,
)
_SLICE = 1 << 20


def parse(listing: str) -> Iterator[Flow]:
    """The TCP and UDP flows in the output of `conntrack -L -o id`; others, such as ICMP, do not matter here."""
    for match in _LINE.finditer(listing):
        protocol, state, source, destination, sport, dport, reply_source, reply_destination, *rest = match.groups()
        reply_sport, reply_dport, number = rest
        yield Flow(
            6 if ":" in source else 4,
            protocol,
            canonical(source),
            int(sport),
            canonical(destination),
            int(dport),
            canonical(reply_source),
            int(reply_sport),
            canonical(reply_destination),
            int(reply_dport),
            state,
            int(number),
        )


# --- Deleting: linux/netfilter/nfnetlink_conntrack.h --------------------------------------------------------------

_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_BATCH = 100
_ENOENT = -2


def _delete_message(flow: Flow, sequence: int) -> bytes:
    v6 = flow.family == 6
    source, destination = ipaddress.ip_address(flow.source), ipaddress.ip_address(flow.destination)
    addresses = [attribute(3 if v6 else 1, source.packed), attribute(4 if v6 else 2, destination.packed)]
    ports = [
        attribute(1, bytes([_NUMBERS[flow.protocol]])),
        attribute(2, struct.pack("!H", flow.source_port)),
        attribute(3, struct.pack("!H", flow.destination_port)),
    ]
    original = nested(1, [nested(1, addresses), nested(2, ports)])
    family = socket.AF_INET6 if v6 else socket.AF_INET
    return message(_DELETE, ACK, family, original + attribute(12, struct.pack("!I", flow.id)), sequence)


def _delete(connect: Connect, flows: Sequence[Flow]) -> int:
    deleted = 0
    with connect() as kernel:
        kernel.settimeout(ANSWER_SECONDS)
        for start in range(0, len(flows), _BATCH):
            batch = flows[start : start + _BATCH]
            kernel.send(b"".join(_delete_message(flow, start + index) for index, flow in enumerate(batch)))
            awaited = len(batch)
            while awaited > 0:
                for error in errors(kernel.recv(BUFFER_BYTES)):
                    awaited -= 1
                    if error not in (0, _ENOENT):
                        raise OSError(-error, "deleting a flow")
                    deleted += error == 0
    return deleted


class KernelConntrack:
    """The flows of the network namespace that this process is in."""

    def __init__(self, prefix: Sequence[str] = (), connect: Connect = netlink.connect) -> None:
        """To reach another namespace: `prefix` is put before `conntrack`, and `connect` makes the netlink socket."""
        self._prefix = tuple(prefix)
        self._connect = connect

    async def flows(self, family: int, source: str | None = None) -> list[Flow]:
        """Also raises ProgramMissingError, which says what to install."""
        narrowed = ["--orig-src", source] if source else []
        argv = [*self._prefix, "conntrack", "-L", "-f", f"ipv{family}", *narrowed, "-o", "id"]
        done = await proc.run(argv)
        if done.status != 0:
            words = done.stderr.strip().partition("\n")[0] or f"failed with status {done.status}"
            raise MoorageError(f"conntrack -L: {words}; run as root, or give the process the capability NET_ADMIN")
        flows: list[Flow] = []
        position = 0
        while position < len(done.stdout):
            end = done.stdout.find("\n", position + _SLICE) + 1 or len(done.stdout)
            flows += parse(done.stdout[position:end])
            position = end
            await asyncio.sleep(0)  # A table of 262,144 flows takes a second; others need their turn.
        return flows

    async def delete(self, flows: Collection[Flow]) -> int:
        if not flows:
            return 0
        try:
            return await asyncio.to_thread(_delete, self._connect, list(flows))
        except OSError as error:
            raise MoorageError(
                f"conntrack: {error.strerror or error}; run as root, or give the process the capability NET_ADMIN"
            ) from None


class FakeConntrack:
    """A `Conntrack` in memory: a set of flows, and the flows that were deleted from it."""

    def __init__(self, flows: Iterable[Flow] = ()) -> None:
        self.tracked = set(flows)
        self.deleted: list[Flow] = []

    async def flows(self, family: int, source: str | None = None) -> list[Flow]:
        return [flow for flow in self.tracked if flow.family == family and source in (None, flow.source)]

    async def delete(self, flows: Collection[Flow]) -> int:
        gone = [flow for flow in flows if flow in self.tracked]
        self.tracked.difference_update(gone)
        self.deleted += gone
        return len(gone)
