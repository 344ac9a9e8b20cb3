"""Hostile objects among good ones: the good ones are always carried, whatever the others hold.

Objects come as the API's watch brings them, with every field that is read. What nft would be given must be well
formed, and a synchronizer over the fake, which refuses what the kernel refuses, must carry it.
"""

import itertools
from collections.abc import Iterable
from ipaddress import ip_address

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.contract import PROXY_LABEL, WEIGHTS_ANNOTATION
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.cluster.events import Event
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import ServicePort
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synchronizer
from moorage.node.agent import Agent
from tests.support.states import ports_of

SCOPE = Scope("node-1", labelled_only=False)
NASTY = [
    "", "None", "0", "x" * 300, "\n", "é", "a b", '"', "}", "1.2.3.4 . 80 }\nadd table inet other", "fe80::1%lo",
    "::", "::ffff:192.0.2.7", "::192.0.2.7", "192.0.2.07", "0192.0.2.1", "256.1.1.1", "192.0.2.1/24", "2001:DB8::7",
    "127.0.0.1", "224.0.0.1", "10.96.0.1", "203.0.113.1",
]  # fmt: skip
texts = st.sampled_from(NASTY) | st.text(max_size=8)
addresses = texts | st.ip_addresses().map(str) | st.from_regex(r"0{0,2}192\.0{1,2}0\.2\.0{0,3}[0-9]", fullmatch=True)
numbers = st.sampled_from([0, -1, 1, 80, 65535, 65536, 70000, 2**31, 2**63 - 1, -(2**63)]) | st.integers(1, 65535)
protocols = st.sampled_from(["TCP", "UDP", "SCTP", "tcp", "", "TCP }"])


def texts_of(*likely: str) -> st.SearchStrategy[str]:
    return st.sampled_from(likely) | texts


conditions = st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("ready", "serving", "terminating")})
weights = st.dictionaries(addresses, numbers, max_size=3).map(lambda found: msgspec.json.encode(found).decode())

Path = tuple[str | int, ...]
SERVICE_FIELDS: dict[Path, st.SearchStrategy[object]] = {
    ("metadata", "labels", PROXY_LABEL): texts_of("moorage"),
    ("spec", "type"): texts_of("NodePort", "LoadBalancer", "ExternalName"),
    ("spec", "clusterIP"): addresses,
    ("spec", "clusterIPs"): st.lists(addresses, max_size=3),
    ("spec", "clusterIPs", 0): addresses,
    ("spec", "ports"): st.none() | st.just([]),
    ("spec", "ports", 0, "port"): numbers,
    ("spec", "ports", 0, "name"): texts,
    ("spec", "ports", 0, "protocol"): protocols,
    ("spec", "sessionAffinity"): texts,
    ("spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"): numbers,
    ("spec", "internalTrafficPolicy"): texts_of("Local"),
    ("status", "loadBalancer", "ingress"): st.none(),
    ("status", "loadBalancer", "ingress", 0, "ip"): addresses,
}
SLICE_FIELDS: dict[Path, st.SearchStrategy[object]] = {
    ("metadata", "labels", "kubernetes.io/service-name"): texts,
    ("metadata", "annotations", WEIGHTS_ANNOTATION): texts | weights,
    ("addressType",): texts_of("IPv6", "FQDN"),
    ("ports",): st.none() | st.just([]),
    ("ports", 0, "port"): st.none() | numbers,
    ("ports", 0, "name"): texts,
    ("ports", 0, "protocol"): protocols,
    ("endpoints",): st.none() | st.just([]),
    ("endpoints", 0, "addresses"): st.lists(addresses, max_size=2),
    ("endpoints", 0, "addresses", 0): addresses,
    ("endpoints", 0, "conditions"): conditions,
    ("endpoints", 0, "hostname"): texts,
    ("endpoints", 1, "hostname"): texts,
    ("endpoints", 1, "nodeName"): texts_of("node-1"),
    ("endpoints", 1, "addresses", 0): addresses,
    ("endpoints", 2, "conditions"): conditions,
}
"""Every field that is read, with what it may be."""


def service(name: str, address: str, version: str = "1") -> dict[str, object]:
    return {
        "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version},
        "spec": {
            "clusterIP": address,
            "clusterIPs": [address, f"fd00::{address.rpartition('.')[2]}"],
            "ports": [{"port": 80}, {"port": 81, "name": "more", "protocol": "UDP"}],
            "sessionAffinity": "ClientIP",
        },
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    }


def slice_(service: str, name: str, *endpoints: str, version: str = "1") -> dict[str, object]:
    labels = {"kubernetes.io/service-name": service}
    return {
        "metadata": {"name": name, "namespace": "n", "uid": name, "resourceVersion": version, "labels": labels},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [endpoint]} for endpoint in endpoints],
    }


def put(object: object, path: Path, value: object) -> None:
    """Set a field, and make those that it is in."""
    *above, last = path
    for step, following in zip(above, path[1:], strict=True):
        if isinstance(object, list):
            if not isinstance(step, int) or step >= len(object):
                return
            object = object[step]
        elif isinstance(object, dict):
            if not object.get(str(step)):
                object[str(step)] = [] if isinstance(following, int) else {}
            object = object[str(step)]
    if isinstance(object, dict):
        object[str(last)] = value
    elif isinstance(object, list) and isinstance(last, int) and last < len(object):
        object[last] = value


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, object]:
    """A Service or slice like the good ones, but for some fields."""
    if draw(st.booleans()):
        made, fields = service("bad", "10.96.6.6"), SERVICE_FIELDS
    else:
        name = draw(st.sampled_from(["bad-1", "bad-2"]))
        made = slice_("bad", name, "203.0.113.1", "203.0.113.2", "203.0.113.1")
        fields = SLICE_FIELDS
    for path in draw(st.lists(st.sampled_from(list(fields)), max_size=3)):
        put(made, path, draw(fields[path]))
    return made


VERSIONS = itertools.count(2)


def tell(agent: Agent, objects: Iterable[dict[str, object]]) -> None:
    """As the watches do."""
    for each in objects:
        put(each, ("metadata", "resourceVersion"), str(next(VERSIONS)))
        if "spec" in each:
            service = msgspec.convert(each, Service)
            agent._world.services._apply(Event("MODIFIED", service))
        else:
            slice_ = msgspec.convert(each, EndpointSlice)
            agent._world.slices._apply(Event("MODIFIED", slice_))


def well_formed(port: ServicePort) -> bool:
    targets = [*(each.target for each in port.endpoints), *port.keeps]
    family = ip_address(port.key.address).version
    return (
        all(str(ip_address(each)) == each for each in (port.key.address, *(target.address for target in targets)))
        and all(ip_address(target.address).version == family for target in targets)
        and all(1 <= each <= 65535 for each in (port.key.port, *(target.port for target in targets)))
        and port.key.protocol in ("tcp", "udp")
        and 1 <= (port.affinity.session_seconds or 1) <= 86400
        and len({each.name for each in port.endpoints}) == len(port.endpoints)
        and all(1 <= each.weight <= 100 for each in port.endpoints)
    )


@settings(max_examples=300)
@given(
    st.lists(hostile(), max_size=5),
    st.lists(hostile(), max_size=3),
    st.sampled_from([SCOPE, SCOPE._replace(addresses="load-balancer")]),
)
async def test_good_services_are_carried_among_hostile_ones(
    before: list[dict[str, object]], after: list[dict[str, object]], scope: Scope
) -> None:
    nft = FakeNft(lambda: 0.0)
    synchronizer = Synchronizer(nft, FakeConntrack(), Capabilities())
    agent = Agent(None, synchronizer, scope)  # type: ignore[arg-type]
    for hostile, endpoint in ((before, "203.0.113.77"), (after, "203.0.113.78")):
        tell(agent, [*hostile, service("good", "10.96.5.5"), slice_("good", "good-1", endpoint)])
        changed = agent._wanted.decide(agent._world.dirty.take_now())
        assert all(map(well_formed, ports_of(agent._wanted.state).values()))
        await synchronizer.sync(agent._wanted.state, changed)
        assert synchronizer.refused == {}
        slots = [each for each in await nft.elements("slots-tcp4") if each.key[0] == "10.96.5.5"]
        assert [each.value for each in slots] == [(endpoint, 8080)]
        assert not any("bug in Moorage" in warning for warning in agent.warnings)
        assert all(warning.isprintable() for warning in agent.warnings)
