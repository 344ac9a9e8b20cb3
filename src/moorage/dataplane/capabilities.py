"""Finds out, once at start, what this machine's nft and kernel can do."""

import re
import socket
from pathlib import Path
from typing import NamedTuple

from moorage.dataplane.netlink import SO_SNDBUFFORCE
from moorage.dataplane.nft import Nft
from moorage.errors import MoorageError

OLDEST_NFT = (1, 0, 6)
"""The oldest nft that accepts our rules; Debian 12 has it."""

TCP_LOOSE = Path("/proc/sys/net/netfilter/nf_conntrack_tcp_loose")

_BUFFER_BYTES = 1 << 20

# nft 1.0.6 aborts when a rule updates a map whose key is longer than 16 bytes; here it is 2 * 16 + 1 + 2.
_LEARN6 = """\
add table inet moorage-probe
add map inet moorage-probe sessions { type ipv6_addr . ipv6_addr . inet_proto . inet_service : \
ipv6_addr . inet_service; flags dynamic,timeout; size 16; }
add chain inet moorage-probe learn
add rule inet moorage-probe learn meta l4proto tcp update @sessions { ip6 saddr . ct original ip6 daddr . \
meta l4proto . ct original proto-dst timeout 10s : ip6 daddr . tcp dport }
"""


class Capabilities(NamedTuple):
    """What nft and the kernel can do."""

    learn6: bool = True
    """It can learn IPv6 sessions (nft 1.1 can). Without that, IPv6 affinity is by the hash of the client's
    address."""
    version: tuple[int, ...] = OLDEST_NFT
    tcp_loose: bool = True
    """The kernel picks up TCP flows in the middle. Without that, clients of a removed endpoint are not reset."""
    large_transactions: bool = True
    """nft can enlarge its socket buffer, so that a transaction may have far more than 4,400 elements."""

    @property
    def warnings(self) -> list[str]:
        """Limits that a person should know about, one line each."""
        lines = []
        if not self.learn6:
            found = ".".join(map(str, self.version))
            lines.append(f"nft {found} cannot learn IPv6 sessions (1.1 can): IPv6 affinity holds by the hash alone")
        if not self.tcp_loose:
            lines.append(
                "net.netfilter.nf_conntrack_tcp_loose is 0: clients of a removed endpoint hang until they time out, "
                "where 1 resets them; set it to 1"
            )
        return lines


def parse_version(line: str) -> tuple[int, ...]:
    """The version in the first line of `nft --version`. Raises MoorageError if there is none or it is too old."""
    match = re.match(r"nftables v(\d+(?:\.\d+)*)", line)
    if match is None:
        raise MoorageError(f"nft --version: {line!r} has no version; install nftables 1.0.6 or newer")
    version = tuple(int(number) for number in match[1].split("."))
    if version < OLDEST_NFT:
        raise MoorageError(f"nft {match[1]} is too old; install nftables 1.0.6 or newer (Debian 12, Ubuntu 24.04)")
    return version


async def probe(nft: Nft, tcp_loose: Path = TCP_LOOSE) -> Capabilities:
    """Find out what they can do. Changes nothing.

    Raises MoorageError if nft is missing, too old, or not permitted.
    """
    version = parse_version(await nft.version())
    await nft.chains()  # Without permission, every check would fail and tell nothing.
    learn6 = await nft.check(_LEARN6)
    return Capabilities(learn6, version, _read_tcp_loose(tcp_loose), _may_enlarge_buffers())


def _read_tcp_loose(path: Path) -> bool:
    """If the file does not exist, conntrack is not loaded yet; it will start with its default, 1."""
    try:
        return path.read_text().strip() != "0"
    except OSError:
        return True


def _may_enlarge_buffers() -> bool:
    """Whether this process may exceed the limit on socket buffers: that takes NET_ADMIN outside any user
    namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as trial:
        try:
            trial.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            return False
    return True
