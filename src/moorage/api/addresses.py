"""IP addresses: how they are read, and which may never be an endpoint."""

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, inet_pton
from typing import Literal

from moorage.api.show import show
from moorage.errors import MoorageError

Family = Literal["IPv4", "IPv6"]

METADATA = tuple(
    ip_network(address)
    for address in (
        "169.254.169.254",  # most clouds
        "168.63.129.16",  # Azure
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle, where it is at the customer's
        "fd20:ce::254",  # Google
        "fd00:c1::a9fe:a9fe",  # Oracle
        "fd00:42::42",  # Scaleway
        "fd00:a9fe:a9fe::1",  # Akamai
        "fd00:100::100:200",  # Alibaba
        "fd00:ec2::/32",  # AWS's services for instances: EKS's pod identity agent, name servers, time servers
    )
)
"""Where clouds give instances their credentials; `deploy/operator/networkpolicy.yaml` has the same ones."""

_SPECIAL4 = (
    (IPv4Network("0.0.0.0/32"), "the unspecified address"),
    (IPv4Network("0.0.0.0/8"), 'an address of "this network" (RFC 1122)'),
    (IPv4Network("127.0.0.0/8"), "a loopback address"),
    (IPv4Network("169.254.0.0/16"), "a link-local address"),
    (IPv4Network("224.0.0.0/4"), "a multicast address"),
    (IPv4Network("255.255.255.255/32"), "the broadcast address"),
)
_METADATA4 = frozenset(int(network[0]) for network in METADATA if isinstance(network, IPv4Network))
_METADATA6 = [network for network in METADATA if isinstance(network, IPv6Network)]
_RANGES4 = [(int(network[0]), int(network[-1]), what) for network, what in _SPECIAL4]
_SPECIAL6 = (
    (IPv6Network("::/128"), "the unspecified address"),
    (IPv6Network("::1/128"), "a loopback address"),
    (IPv6Network("fe80::/10"), "a link-local address"),
    (IPv6Network("fec0::/10"), "a site-local address (RFC 3879)"),
    (IPv6Network("ff00::/8"), "a multicast address"),
)

_EMBEDDING = (
    (IPv6Network("::ffff:0:0/96"), "IPv4-mapped"),
    (IPv6Network("::ffff:0:0:0/96"), "IPv4-translated"),
    (IPv6Network("64:ff9b::/96"), "NAT64"),
    (IPv6Network("::/96"), "IPv4-compatible"),
)
"""IPv6 ranges whose last 32 bits are an IPv4 address that the packet may end up at (RFC 2765, 4291, 6052, 8215)."""
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_ISATAP = 0x00005EFE
"""The first half of an ISATAP interface identifier, under any prefix (RFC 5214, 6.1). One bit of it may be set. The
other half is an IPv4 address."""


def parse(address: str) -> IPv4Address | IPv6Address:
    """Parse an address, in any of IPv6's spellings.

    Raises MoorageError for text that is no address, and for spellings that programs read differently: leading zeros
    (octal to some), IPv4-mapped IPv6 (IPv4 to some), and zones, which mean something on one machine only.
    """
    try:
        parsed = read(address)
    except ValueError:
        plain = _without_leading_zeros(address)
        if plain is not None:
            raise MoorageError(
                f"{show(address)} has leading zeros, octal to some programs; write {plain} if that is meant"
            ) from None
        raise MoorageError(
            f"{show(address)} is not an IP address; write one such as 203.0.113.11 or 2001:db8::11"
        ) from None
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            raise MoorageError(f"{show(address)} has a zone, which means nothing on other machines; leave it out")
        if parsed.ipv4_mapped is not None:
            raise MoorageError(f"{show(address)} is an IPv4-mapped address; write {parsed.ipv4_mapped}")
    return parsed


def _without_leading_zeros(address: str) -> str | None:
    parts = address.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        return None
    plain = ".".join(str(int(part)) for part in parts)
    try:
        return str(IPv4Address(plain))
    except ValueError:
        return None


_LEADING_ZEROS = re.compile(r"(?<![0-9A-Fa-f])0+(?=[0-9A-Fa-f])")


def read(address: str) -> IPv4Address | IPv6Address:
    """Like `ipaddress.ip_address`, also in its ValueError, but ten times as fast for IPv4.

    The operator reads all endpoints' addresses at each decision; a node reads a hundred thousand when it starts.
    """
    try:
        return IPv4Address(int.from_bytes(inet_pton(AF_INET, address)))
    except (OSError, ValueError):
        return ip_address(address)


def as_kubernetes_reads(address: str) -> str | None:
    """The canonical spelling of an address in a Kubernetes object, as Kubernetes reads it; None if it is no address.

    Its objects may hold spellings that `parse` refuses, and all of Kubernetes reads them alike (`ParseIPSloppy` of
    k8s.io/utils/net, which is Go's `net.ParseIP` before 1.17): leading zeros mean nothing, so `010.0.0.1` is
    `10.0.0.1`; an IPv4-mapped IPv6 address is that IPv4 address; text with a zone is no address.
    """
    try:
        parsed = read(address)
    except ValueError:
        try:
            parsed = read(_LEADING_ZEROS.sub("", address))
        except ValueError:
            return None
    if isinstance(parsed, IPv4Address):
        return str(parsed)
    if parsed.scope_id is not None:
        return None
    return str(parsed.ipv4_mapped or parsed)


def canonical(address: str) -> str:
    """The canonical spelling (RFC 5952), by which addresses are compared; raises MoorageError as `parse` does."""
    return str(parse(address))


def family(address: str) -> Family:
    """`"IPv4"` or `"IPv6"`, as `ipFamilies` and `addressType` write it; raises MoorageError as `parse` does."""
    return "IPv4" if parse(address).version == 4 else "IPv6"


def special(address: str) -> str | None:
    """Why an address may never be an endpoint, to be read after "is": `"a loopback address"`; None if it may.

    More than upstream's ValidateNonSpecialIP refuses: all multicast, broadcast, "this network", the clouds'
    metadata servers, and the forms of all these inside IPv6. An endpoint at one of them would let whoever may write
    a slice reach what the node alone should (CVE-2021-25740). Text that is no address is refused, too.
    """
    try:
        return special_of(read(address))
    except ValueError:
        return "not an IP address"


def special_of(address: IPv4Address | IPv6Address) -> str | None:
    """As `special`."""
    return _special4(int(address)) if isinstance(address, IPv4Address) else _special6(address)


def canonical_endpoint(address: str) -> tuple[str, str | None]:
    """An endpoint's address as Kubernetes reads it, unchanged if it is none, and what `special` says about it."""
    try:
        return address, _special4(int.from_bytes(inet_pton(AF_INET, address)))
    except (OSError, ValueError):
        canonical = as_kubernetes_reads(address)
    return (canonical, special(canonical)) if canonical is not None else (address, "not an IP address")


def _special4(address: int) -> str | None:
    if address in _METADATA4:
        return "a cloud metadata address"
    for first, last, what in _RANGES4:
        if first <= address <= last:
            return what
    return None


def _special6(address: IPv6Address) -> str | None:
    address = IPv6Address(int(address))  # a zone would keep it out of every network
    if any(address in network for network in _METADATA6):
        return "a cloud metadata address"
    for network, what in _SPECIAL6:
        if address in network:
            return what
    for form, inner in embedded(address):
        what_inner = _special4(int(inner))
        if what_inner:
            return f"{what_inner} in {form} form"
    return None


def embedded(address: IPv6Address) -> list[tuple[str, IPv4Address]]:
    """The IPv4 addresses that a packet to `address` may end up at, each with the name of the form; usually none.

    A Teredo address (RFC 4380, 4) has two: the server's, and that of the client's NAT.
    """
    number = int(address)
    found = [(form, IPv4Address(number & 0xFFFFFFFF)) for network, form in _EMBEDDING if address in network]
    if address in _LOCAL_NAT64:
        found += [("NAT64", inner) for inner in _local_nat64(number)]
    if address.sixtofour is not None:
        found.append(("6to4", address.sixtofour))
    found += [("Teredo", inner) for inner in address.teredo or ()]
    if number >> 32 & 0xFDFFFFFF == _ISATAP:
        found.append(("ISATAP", IPv4Address(number & 0xFFFFFFFF)))
    return found


def _local_nat64(number: int) -> list[IPv4Address]:
    """The IPv4 addresses that translators with prefixes of 48, 56, 64 and 96 bits would read (RFC 6052, 2.2).

    After all but the longest, the ninth octet is left out, and what follows the IPv4 address is ignored. What is
    padding to one of these lengths reads as 0.x.x.x.
    """
    without_ninth = number >> 64 << 56 | (number & (1 << 56) - 1)
    last = number & 0xFFFFFFFF
    readings = [*(without_ninth >> 88 - length & 0xFFFFFFFF for length in (48, 56, 64)), last]
    return [IPv4Address(each) for each in readings if each >> 24] or [IPv4Address(last)]
