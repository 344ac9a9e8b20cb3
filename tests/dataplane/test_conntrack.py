import socket
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage import proc
from moorage.dataplane.conntrack import FakeConntrack, Flow, KernelConntrack, parse, stale
from moorage.dataplane.model import MooringKey, ServiceAddress, Target
from moorage.errors import MoorageError
from tests.support.netns import Namespace

SERVICE = ("10.96.0.1", "tcp", 80)


def flow(number: int = 1, endpoint: str = "203.0.113.1", *, protocol: str = "tcp", family: int = 4) -> Flow:
    """A flow of client `number` to port 80 of the service, sent on to port 8080 of `endpoint`."""
    client = f"10.0.{number >> 8}.{number & 255}" if family == 4 else f"2001:db8::{number:x}"
    service = "10.96.0.1" if family == 4 else "fd00::1"
    state = "ESTABLISHED" if protocol == "tcp" else None
    return Flow(family, protocol, client, 4000, service, 80, endpoint, 8080, client, 4000, state)


def track(netns: Namespace, flows: Collection[Flow]) -> None:
    """Put flows into the kernel's table."""
    lines = [
        f"-I -p {each.protocol} --orig-src {each.source} --orig-dst {each.destination} "
        f"--orig-port-src {each.source_port} --orig-port-dst {each.destination_port} "
        f"--reply-src {each.reply_source} --reply-dst {each.reply_destination} "
        f"--reply-port-src {each.reply_source_port} --reply-port-dst {each.reply_destination_port} "
        f"{f'--state {each.state} ' if each.state else ''}-t 600 -u ASSURED,SEEN_REPLY"
        for each in flows
    ]
    netns.run("conntrack", "-R", "-", input="\n".join(lines) + "\n")


def without_ids(flows: Collection[Flow]) -> set[Flow]:
    return {each._replace(id=0) for each in flows}


@pytest.fixture
def kernel(netns: Namespace) -> KernelConntrack:
    return KernelConntrack(netns.prefix, netns.netlink)


# --- The decision --------------------------------------------------------------------------------------------------


def test_a_flow_to_an_endpoint_that_is_gone_is_stale() -> None:
    flows = [flow(1, "203.0.113.1"), flow(2, "203.0.113.2")]
    assert stale(flows, {SERVICE: {("203.0.113.2", 8080)}}) == [flows[0]]


def test_the_endpoint_port_counts() -> None:
    assert stale([flow()], {SERVICE: {("203.0.113.1", 8081)}}) == [flow()]


def test_flows_to_addresses_protocols_and_ports_of_others_are_left_alone() -> None:
    assert (
        stale([flow()], {("10.96.0.2", "tcp", 80): [], ("10.96.0.1", "udp", 80): [], ("10.96.0.1", "tcp", 81): []})
        == []
    )


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_flow_that_was_there_before_its_service_is_stale(protocol: str) -> None:
    early = flow(protocol=protocol)._replace(reply_source="10.96.0.1", reply_source_port=80)
    assert stale([early], {("10.96.0.1", protocol, 80): {("203.0.113.1", 8080)}}) == [early]


def test_a_flow_of_a_client_to_the_endpoint_that_it_was_moved_away_from_is_stale() -> None:
    old = [flow(1, "203.0.113.1"), flow(2, "203.0.113.1")]
    there = flow(1, "203.0.113.2")
    endpoints = {SERVICE: {("203.0.113.1", 8080), ("203.0.113.2", 8080)}}
    moves = {MooringKey(old[0].source, ServiceAddress(*SERVICE)): {Target("203.0.113.1", 8080)}}
    assert stale([*old, there], endpoints, moves) == [old[0]]
    assert stale([*old, there], {}, moves) == [old[0]]
    assert stale([*old, there], {}, {key: {Target("203.0.113.1", 80)} for key in moves}) == []


addresses = st.sampled_from(["10.96.0.1", "10.96.0.2", "203.0.113.1", "203.0.113.2", "fd00::1", "2001:db8::1"])
ports = st.sampled_from([53, 80, 8080])
protocols = st.sampled_from(["tcp", "udp"])
flows_of_all_kinds = st.lists(
    st.builds(
        Flow,
        st.sampled_from([4, 6]),
        protocols,
        addresses,
        ports,
        addresses,
        ports,
        addresses,
        ports,
        addresses,
        ports,
    )
)
endpoints_of_services = st.dictionaries(
    st.tuples(addresses, protocols, ports), st.frozensets(st.tuples(addresses, ports))
)


@given(flows_of_all_kinds, endpoints_of_services)
def test_every_flow_is_either_stale_or_somebody_elses_or_at_a_kept_endpoint(
    flows: list[Flow], endpoints: dict[tuple[str, str, int], frozenset[tuple[str, int]]]
) -> None:
    found = stale(flows, endpoints)
    assert set(found) <= set(flows)
    for each in flows:
        ours = endpoints.get((each.destination, each.protocol, each.destination_port))
        at_kept = ours is not None and (each.reply_source, each.reply_source_port) in ours
        assert (each in found) == (ours is not None and not at_kept)


@given(flows_of_all_kinds, endpoints_of_services)
def test_with_the_stale_flows_gone_none_is_stale(
    flows: list[Flow], endpoints: dict[tuple[str, str, int], frozenset[tuple[str, int]]]
) -> None:
    gone = stale(flows, endpoints)
    assert stale([each for each in flows if each not in gone], endpoints) == []


# --- Reading what conntrack prints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "tcp      6 599 ESTABLISHED src=10.0.0.1 dst=10.96.0.1 sport=4000 dport=80 src=203.0.113.1 dst=10.0.0.1 "
            "sport=8080 dport=4000 [ASSURED] mark=0 use=1 id=381277433",
            flow()._replace(id=381277433),
        ),
        (
            "tcp      6 110 SYN_SENT src=10.0.0.1 dst=10.96.0.1 sport=4000 dport=80 [UNREPLIED] src=203.0.113.1 "
            "dst=10.0.0.1 sport=8080 dport=4000 mark=0 use=1 id=7",
            flow()._replace(state="SYN_SENT", id=7),
        ),
        (
            "udp      17 29 src=2001:db8::1 dst=fd00::1 sport=4000 dport=80 packets=1 bytes=40 [UNREPLIED] "
            "src=2001:db8::9 dst=2001:db8::1 sport=8080 dport=4000 packets=0 bytes=0 mark=0 use=1 id=4294967295",
            flow(1, "2001:db8::9", protocol="udp", family=6)._replace(id=4294967295),
        ),
        (
            "udp      17 29 src=2001:db8::1 dst=fd00::1 sport=4000 dport=80 src=::192.0.2.7 dst=2001:db8::1 "
            "sport=8080 dport=4000 mark=0 use=1 id=5",
            flow(1, "::c000:207", protocol="udp", family=6)._replace(id=5),
        ),
        (
            "tcp      6 src=10.0.0.1 dst=10.96.0.1 sport=4000 dport=80 src=203.0.113.1 dst=10.0.0.1 "
            "sport=8080 dport=4000 [OFFLOAD] mark=0 use=2 id=1",
            flow()._replace(state=None, id=1),
        ),
    ],
)
def test_reads_the_forms_in_which_conntrack_lists_a_flow(line: str, expected: Flow) -> None:
    others = (
        "icmp     1 29 src=10.0.0.1 dst=10.0.0.2 type=8 code=0 id=5 src=10.0.0.2 dst=10.0.0.1 type=0 code=0 id=5 "
        "mark=0 use=1 id=9\n"
        "sctp     132 3 CLOSED src=10.0.0.1 dst=10.0.0.2 sport=1 dport=2 src=10.0.0.2 dst=10.0.0.1 sport=2 dport=1 "
        "mark=0 use=1 id=10\n"
        "unknown  50 599 src=10.0.0.1 dst=10.0.0.2 src=10.0.0.2 dst=10.0.0.1 mark=0 use=1 id=11\n"
    )
    assert list(parse(f"{others}{line}\n{others}")) == [expected]


async def test_a_missing_conntrack_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(proc.ProgramMissingError, match="apt-get install conntrack"):
        await KernelConntrack().flows(4)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'not permitted' >&2; echo more >&2; exit 1", "conntrack -L: not permitted;"),
        ("exit 3", "conntrack -L: failed with status 3;"),
    ],
)
async def test_a_conntrack_that_fails_is_told_in_its_first_words_or_by_its_status(script: str, words: str) -> None:
    with pytest.raises(MoorageError, match="NET_ADMIN") as caught:
        await KernelConntrack(("sh", "-c", script)).flows(4)
    assert str(caught.value).startswith(words)


# --- The kernel ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [4, 6])
async def test_lists_the_flows_of_one_family(netns: Namespace, kernel: KernelConntrack, family: int) -> None:
    endpoint = "203.0.113.1" if family == 4 else "2001:db8:1::1"
    mine = [flow(1, endpoint, family=family), flow(2, endpoint, family=family, protocol="udp")]
    other = flow(3, "2001:db8:1::1", family=6) if family == 4 else flow(3)
    assert await kernel.flows(family) == []
    track(netns, [*mine, other])
    assert without_ids(await kernel.flows(family)) == set(mine)
    assert without_ids(await kernel.flows(family, mine[1].source)) == {mine[1]}
    assert await kernel.flows(family, flow(9, endpoint, family=family).source) == []


@pytest.mark.parametrize("family", [4, 6])
async def test_deletes_exactly_the_flows_named(netns: Namespace, kernel: KernelConntrack, family: int) -> None:
    endpoint = "203.0.113.1" if family == 4 else "2001:db8:1::1"
    tracked = [flow(number, endpoint, family=family, protocol=p) for number in (1, 2, 3) for p in ("tcp", "udp")]
    track(netns, tracked)
    listed = await kernel.flows(family)
    doomed = [each for each in listed if each.source == tracked[2].source]
    assert await kernel.delete(doomed) == 2
    assert without_ids(await kernel.flows(family)) == {*tracked[:2], *tracked[4:]}


async def test_a_flow_that_is_gone_already_does_not_keep_the_others(
    netns: Namespace, kernel: KernelConntrack
) -> None:
    track(netns, [flow(1), flow(2), flow(3)])
    listed = sorted(await kernel.flows(4))
    assert await kernel.delete(listed[:1]) == 1
    assert await kernel.delete(listed) == 2
    assert await kernel.flows(4) == []


async def test_a_flow_with_the_same_addresses_and_ports_but_another_id_stays(
    netns: Namespace, kernel: KernelConntrack
) -> None:
    track(netns, [flow(1)])
    [there] = await kernel.flows(4)
    assert await kernel.delete([there._replace(id=there.id ^ 1)]) == 0
    assert await kernel.flows(4) == [there]


async def test_deletes_thousands(netns: Namespace, kernel: KernelConntrack) -> None:
    track(netns, [flow(number) for number in range(3000)])
    listed = await kernel.flows(4)
    assert len(listed) == 3000
    assert await kernel.delete(listed) == 3000
    assert await kernel.flows(4) == []


async def test_deleting_nothing_opens_nothing() -> None:
    def connect() -> socket.socket:
        raise AssertionError("a socket was opened")

    assert await KernelConntrack(connect=connect).delete([]) == 0


async def test_without_the_permission_to_list_it_says_what_is_needed(netns: Namespace) -> None:
    powerless = KernelConntrack((*netns.prefix, "setpriv", "--bounding-set=-all", "--inh-caps=-all"))
    with pytest.raises(MoorageError, match="NET_ADMIN"):
        await powerless.flows(4)


async def test_the_fake_deletes_what_is_tracked_and_remembers_it() -> None:
    fake = FakeConntrack([flow(1), flow(2), flow(3, "2001:db8:1::1", family=6)])
    assert await fake.delete([flow(1), flow(9)]) == 1
    assert await fake.flows(4) == [flow(2)]
    assert fake.deleted == [flow(1)]
