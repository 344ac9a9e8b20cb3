"""One table and two versions of nft, this machine's and the image's, beside kube-proxy's tables.

A node's nft, kube-proxy's and ours look at one kernel, and each reads what another wrote. nft 1.0.6 dies over sets
that a newer one declared by plain types (kubernetes/kubernetes issue 136786).
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.harness import image
from moorage.dataplane import sessions
from moorage.dataplane.audit import audit
from moorage.dataplane.capabilities import Capabilities, parse_version, probe
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.model import (
    Balanced,
    ByClientIP,
    ClientTarget,
    Endpoint,
    Moored,
    MooringKey,
    NodeState,
    PodPrefix,
    PodPrefixKey,
    ServiceAddress,
    ServicePort,
    Target,
)
from moorage.dataplane.nft import KernelNft, NftCrashError
from moorage.dataplane.sync import Synced, Synchronizer
from testing.inside import netlink_inside

FOUR, SIX = ServiceAddress("10.96.0.1", "tcp", 80), ServiceAddress("fd00:10:96::1", "udp", 53)
MOORED, MOORED6 = ServiceAddress("10.96.0.2", "tcp", 80), ServiceAddress("fd00:10:96::2", "tcp", 80)
KEPT = "10.244.1.2 . 10.96.0.1 . tcp . 80"

KUBE_PROXY = """\
add table {ip} kube-proxy
add set {ip} kube-proxy cluster-ips {{ {address}; comment "Active ClusterIPs"; }}
add set {ip} kube-proxy affinity-ABCDEFGH {{ {client}; flags dynamic,timeout; timeout 10800s; }}
add map {ip} kube-proxy no-endpoint-services {{ {service}; }}
add map {ip} kube-proxy service-ips {{ {service}; }}
add chain {ip} kube-proxy reject-chain
add rule {ip} kube-proxy reject-chain reject
add chain {ip} kube-proxy nat-prerouting {{ type nat hook prerouting priority -100; }}
add rule {ip} kube-proxy nat-prerouting {ip} daddr . meta l4proto . th dport vmap @service-ips
add rule {ip} kube-proxy nat-prerouting update @affinity-ABCDEFGH {{ {ip} saddr }}
add element {ip} kube-proxy cluster-ips {{ {cluster_ip} }}
add element {ip} kube-proxy service-ips {{ {cluster_ip} . tcp . 443 : goto reject-chain }}
"""


def kube_proxy(declared: str) -> str:
    """Tables like those of kube-proxy in mode nftables, their sets declared with `typeof`, or by `type` as once."""
    script = ""
    for ip, type_, cluster_ip in (("ip", "ipv4_addr", "10.96.0.10"), ("ip6", "ipv6_addr", "fd00:10:96::a")):
        address, client, service = f"typeof {ip} daddr", f"typeof {ip} saddr", f"{ip} daddr . meta l4proto . th dport"
        if declared == "type":
            address = client = f"type {type_}"
            service = f"{type_} . inet_proto . inet_service"
        script += KUBE_PROXY.format(
            ip=ip, address=address, client=client, service=f"{declared} {service} : verdict", cluster_ip=cluster_ip
        )
    return script


class Versions(NamedTuple):
    """The same network namespace by two versions of nft."""

    here: KernelNft
    """This machine's."""
    image: KernelNft
    """The image's."""

    def both(self, order: str) -> tuple[KernelNft, KernelNft]:
        """Who writes first, and who takes over."""
        return (self.here, self.image) if order == "here first" else (self.image, self.here)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image's file system."""
    directory = tmp_path_factory.mktemp("image")
    image.unpack(image.build(), directory)
    return directory


@pytest.fixture
def versions(root: Path) -> Iterator[Versions]:
    with _namespace() as prefix:
        connect = partial(netlink_inside, prefix)
        yield Versions(KernelNft(prefix, connect), KernelNft((*prefix, "chroot", str(root)), connect))


@contextmanager
def _namespace() -> Iterator[tuple[str, ...]]:
    """The words that run a program in a new network namespace, until the end of the block."""
    argv = ["unshare", "--net", "sh", "-c", "echo ready && exec cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"ready\n"
            yield ("nsenter", f"--net=/proc/{holder.pid}/ns/net")
        finally:
            holder.kill()


def state(*numbers: int) -> NodeState:
    """Services with these endpoints: over TCP with sessions, over UDP without, and with moorings of both families."""
    four = tuple(Endpoint(f"e{each}", Target(f"203.0.113.{each}", 80), local=each == 1) for each in numbers)
    six = tuple(Endpoint(f"e{each}", Target(f"2001:db8::{each}", 53)) for each in numbers)
    return {
        FOUR: ServicePort("frontend/backend", FOUR, four, ByClientIP(10_800)),
        SIX: ServicePort("frontend/dns", SIX, six, Balanced()),
        **_moored(MOORED, four, "10.244.1.2", "10.244.1.0/24"),
        **_moored(MOORED6, six, "fd00:10:244:1::2", "fd00:10:244:1::/64"),
    }


def _moored(key: ServiceAddress, endpoints: tuple[Endpoint, ...], client: str, pods: str) -> NodeState:
    port = ServicePort("frontend/moored", key, endpoints, Moored(10_800, holds=True))
    mooring, prefix = MooringKey(client, key), PodPrefixKey(pods)
    return {key: port, mooring: ClientTarget(mooring, endpoints[-1].target), prefix: PodPrefix(prefix)}


async def carry(nft: KernelNft, wanted: NodeState) -> Synced:
    """As an agent does that starts with this nft, and learns no more than the older one can."""
    return await Synchronizer(nft, FakeConntrack(), Capabilities(learn6=False)).sync(wanted, wanted)


async def with_session(nft: KernelNft) -> None:
    await nft.run(f"add element inet moorage sessions4 {{ {KEPT} timeout 10800s : 203.0.113.2 . 80 }}\n")


ORDERS = pytest.mark.parametrize("order", ["here first", "image first"])


async def test_the_two_are_of_different_versions(versions: Versions) -> None:
    here, there = parse_version(await versions.here.version()), parse_version(await versions.image.version())
    if here >= (1, 1):
        pytest.skip("this machine's nft is as new as the image's: the older one is not to be had")
    assert here < there


@ORDERS
async def test_each_lists_and_changes_what_the_other_wrote_beside_tables_of_kube_proxy(
    versions: Versions, order: str
) -> None:
    first, second = versions.both(order)
    await second.run(kube_proxy("typeof"))
    await carry(first, state(1, 2))
    await with_session(first)
    for nft in (second, first):
        assert await audit(nft, state(1, 2), frozenset({4})) == []
        assert [each.target.address for each in await sessions.read(nft)] == ["203.0.113.2"]
    assert await carry(second, state(1, 2)) == (0, 0, 0), "all is as it should be"
    await carry(second, state(2, 3))
    await carry(first, state(2, 4))
    for nft in (second, first):
        assert await audit(nft, state(2, 4), frozenset({4})) == []
        assert len(await sessions.read(nft)) == 1, "the client's endpoint stayed"
    await carry(first, {})
    assert await audit(second, {}, frozenset({4})) == []


@ORDERS
async def test_each_goes_on_beside_tables_that_an_older_kube_proxy_made_with_its_own_nft(
    versions: Versions, order: str
) -> None:
    first, second = versions.both(order)
    await versions.here.run(kube_proxy("type"))
    await carry(first, state(1, 2))
    await carry(second, state(2, 3))
    for nft in versions:
        assert await audit(nft, state(2, 3), frozenset({4})) == []


async def test_an_older_nft_that_dies_over_a_table_of_a_newer_one_names_it_and_blames_no_service(
    versions: Versions,
) -> None:
    if parse_version(await versions.here.version()) >= (1, 1):
        pytest.skip("this machine's nft reads all that the image's makes")
    await carry(versions.here, state(1, 2))
    await versions.image.run("add table inet others\nadd set inet others plain { type ifname; }\n")
    sync = Synchronizer(versions.here, FakeConntrack(), Capabilities(learn6=False))
    with pytest.raises(NftCrashError) as caught:
        await sync.sync(state(2, 3), set())
    words = str(caught.value)
    assert "was killed by SIGSEGV (11)" in words
    assert "cannot read table inet others, which a newer nft made" in words
    assert sync.refused == {}
    assert await audit(versions.image, state(1, 2), frozenset({4})) == [], "the last good state stays"
    await versions.image.run("delete table inet others\n")
    await sync.sync(state(2, 3), set())
    assert await audit(versions.image, state(2, 3), frozenset({4})) == []


async def test_the_image_s_learns_sessions_of_ipv6_and_the_older_reads_them(versions: Versions) -> None:
    found = await probe(versions.image)
    assert found.learn6
    there = state(1, 2)
    dns = there[SIX]
    assert isinstance(dns, ServicePort)
    wanted: NodeState = there | {SIX: ServicePort("frontend/dns", SIX, dns.endpoints, ByClientIP(60))}
    await Synchronizer(versions.image, FakeConntrack(), found).sync(wanted, wanted)
    for nft in versions:
        assert await audit(nft, wanted, frozenset({4, 6})) == []
    await carry(versions.here, wanted)
    for nft in versions:
        assert await audit(nft, wanted, frozenset({4})) == []
