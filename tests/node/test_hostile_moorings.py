"""Hostile pods, Moorings and Services among good ones: the good pods are led, whatever the others hold.

Objects come as the API's watches bring them, with every field that is read; those that cannot be decoded do not come.
"""

import itertools
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.contract import (
    AFFINITY_ANNOTATION,
    CLIENT_ANNOTATION,
    GROUP_ANNOTATION,
    LABEL_ANNOTATION,
    POD_SELECTOR_ANNOTATION,
    PROXY,
    PROXY_LABEL,
    WHILE_PENDING_ANNOTATION,
)
from moorage.api.core_v1 import Pod, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.events import Event
from moorage.dataplane.capabilities import Capabilities
from moorage.dataplane.conntrack import FakeConntrack
from moorage.dataplane.fake import FakeNft
from moorage.dataplane.model import ClientTarget, MooringKey, ServiceAddress, ServicePort, Target
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synchronizer
from moorage.node.agent import Agent
from moorage.node.followed import Source
from tests.node.test_hostile import NASTY, Path, put, texts

NAMESPACES = ("n", "m")
MARKS = {
    AFFINITY_ANNOTATION: "Mooring",
    GROUP_ANNOTATION: "g",
    CLIENT_ANNOTATION: "Pod",
    POD_SELECTOR_ANNOTATION: "{}",
    WHILE_PENDING_ANNOTATION: "Hold",
}
CLIENTS = ["p1", "p2", "good", "node-1", "eu-1a", "Deployment/web", "t"]
KINDS = ["Pod", "Workload", "Label", "Node", "Zone", "Namespace", "Host"]

VERSIONS = itertools.count(2)


def meta(name: str, namespace: str, **more: object) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}", **more}


def service(name: str, address: str, namespace: str = "n") -> dict[str, Any]:
    return {
        "kind": "Service",
        "metadata": meta(name, namespace, labels={PROXY_LABEL: PROXY}, annotations=dict(MARKS)),
        "spec": {"clusterIPs": [address, "fd00::5"], "ports": [{"port": 80}], "sessionAffinity": "ClientIP"},
    }


def slice_(service: str, namespace: str = "n") -> dict[str, Any]:
    return {
        "kind": "EndpointSlice",
        "metadata": meta(f"{service}-1", namespace, labels={"kubernetes.io/service-name": service}),
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [f"203.0.113.{n}"], "hostname": f"e{n}"} for n in (1, 2)],
    }


def pod(name: str, address: str, namespace: str = "n") -> dict[str, Any]:
    return {
        "kind": "Pod",
        "metadata": meta(name, namespace, labels={"tenant": "t"}, creationTimestamp="2026-01-01T00:00:00Z"),
        "spec": {"nodeName": "node-1"},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]},
    }


def mooring(name: str, client: str, endpoint: str, kind: str = "Pod", namespace: str = "n") -> dict[str, Any]:
    return {
        "kind": "Mooring",
        "metadata": meta(name, namespace),
        "spec": {"group": "g", "client": {"kind": kind, "name": client}, "endpoint": endpoint},
        "status": {"endpoint": endpoint},
    }


GOOD = [service("good", "10.96.5.5"), slice_("good"), pod("good", "10.244.9.9"), mooring("g.good", "good", "e2")]

addresses = st.sampled_from([*NASTY, "10.244.1.1", "10.244.1.2", "fd00:10::1", "010.244.1.1"])
selectors = st.sampled_from(["", "{}", "[]", '{"matchLabels":{"tenant":"t"}}', '{"matchExpressions":[{"key":"a"}]}'])
controllers = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(["v1", "apps/v1", "batch/v1"]),
        "kind": st.sampled_from(["ReplicaSet", "Job", "StatefulSet", "Node"]),
        "name": texts,
        "uid": texts,
        "controller": st.booleans(),
    }
)
SERVICE_FIELDS: dict[Path, st.SearchStrategy[object]] = {
    ("metadata", "annotations", AFFINITY_ANNOTATION): texts,
    ("metadata", "annotations", GROUP_ANNOTATION): texts | st.just("other"),
    ("metadata", "annotations", CLIENT_ANNOTATION): st.sampled_from(KINDS),
    ("metadata", "annotations", LABEL_ANNOTATION): texts | st.just("tenant"),
    ("metadata", "annotations", POD_SELECTOR_ANNOTATION): selectors,
    ("metadata", "annotations", WHILE_PENDING_ANNOTATION): st.sampled_from(["Hold", "Hash", "Wait"]),
    ("spec", "sessionAffinity"): st.sampled_from(["None", "ClientIP", "Mooring"]),
    ("spec", "clusterIPs", 0): st.sampled_from(["10.96.5.5", "10.96.6.7", "None"]),
}
POD_FIELDS: dict[Path, st.SearchStrategy[object]] = {
    ("metadata", "labels"): st.none() | st.dictionaries(texts, texts, max_size=2),
    ("metadata", "ownerReferences"): st.none() | st.lists(controllers, max_size=2),
    ("metadata", "creationTimestamp"): texts | st.just("2026-01-01T00:00:09Z"),
    ("metadata", "deletionTimestamp"): texts,
    ("spec", "hostNetwork"): st.booleans(),
    ("status", "phase"): texts | st.sampled_from(["Failed", "Succeeded"]),
    ("status", "podIP"): addresses,
    ("status", "podIPs"): st.none() | st.lists(st.fixed_dictionaries({"ip": addresses}), max_size=3),
}
MOORING_FIELDS: dict[Path, st.SearchStrategy[object]] = {
    ("metadata", "name"): texts,
    ("metadata", "creationTimestamp"): texts,
    ("spec", "group"): texts,
    ("spec", "client", "kind"): st.sampled_from(KINDS),
    ("spec", "client", "name"): st.sampled_from(CLIENTS) | texts,
    ("spec", "endpoint"): texts | st.sampled_from(["e1", "e2"]),
    ("status", "endpoint"): st.none() | texts | st.sampled_from(["e1", "e2"]),
    ("status", "reason"): texts | st.just("Moved"),
    ("status", "previous"): texts,
}


def _copy(made: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(made))
    return copy


@st.composite
def hostile(draw: st.DrawFn) -> dict[str, Any]:
    """Like a good one, but for some fields. None has the good pod's address, is of its client, or of its name."""
    namespace = draw(st.sampled_from(NAMESPACES))
    made, fields = draw(
        st.sampled_from(
            [
                (service("bad", "10.96.6.6", namespace), SERVICE_FIELDS),
                (pod(draw(st.sampled_from(["p1", "p2"])), "10.244.1.1", namespace), POD_FIELDS),
                (mooring(f"g.{draw(st.sampled_from(CLIENTS))}", "p1", "e1", "Pod", namespace), MOORING_FIELDS),
            ]
        )
    )
    made = _copy(made)
    for path in draw(st.lists(st.sampled_from(list(fields)), max_size=4)):
        put(made, path, draw(fields[path]))
    if made["kind"] == "Mooring" and (
        made["metadata"]["name"] == "g.good" or made["spec"]["client"]["name"] == "good"
    ):
        made["metadata"] |= {"namespace": "m"}
    return made


def tell(agent: Agent, objects: Iterable[dict[str, Any]]) -> None:
    """As the watches do."""
    clientele = agent._world.clientele
    watches: dict[str, tuple[type[Any], Any]] = {
        "Service": (Service, agent._world.services),
        "EndpointSlice": (EndpointSlice, agent._world.slices),
        "Pod": (Pod, clientele._pods),
    }
    clientele._moorings.follow([Source(each) for each in NAMESPACES])
    for each in objects:
        put(each, ("metadata", "resourceVersion"), str(next(VERSIONS)))
        kind, watch = watches.get(each["kind"]) or (
            Mooring,
            clientele._moorings._followed[Source(each["metadata"]["namespace"])],
        )
        with suppress(msgspec.ValidationError):
            watch._apply(Event("MODIFIED", msgspec.convert(each, kind)))


def well_formed(unit: ClientTarget) -> bool:
    client, service = unit.key
    return (
        str(ip_address(client)) == client
        and ip_address(client).version == ip_address(service.address).version
        and ip_address(unit.target.address).version == ip_address(client).version
    )


@settings(max_examples=300)
@given(st.lists(hostile(), max_size=6), st.lists(hostile(), max_size=4))
async def test_good_pods_are_led_among_hostile_objects(
    before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> None:
    synchronizer = Synchronizer(FakeNft(lambda: 0.0), FakeConntrack(), Capabilities())
    agent = Agent(None, synchronizer, Scope("node-1", zone="eu-1a"))  # type: ignore[arg-type]
    http = ServiceAddress("10.96.5.5", "tcp", 80)
    for objects in ([*before, *GOOD], after):
        tell(agent, map(_copy, objects))
        for _ in range(2):  # what is followed follows from what was decided
            changed = agent._wanted.decide(agent._world.dirty.take_now())
            state = agent._wanted.state
            led = [each for each in state.values() if isinstance(each, ClientTarget)]
            assert all(map(well_formed, led))
            for each in led:
                port = state[each.key.service]
                assert isinstance(port, ServicePort)
                assert each.target in port.targets | port.keeps, "it would be ended as stale"
            await synchronizer.sync(state, changed)
        assert synchronizer.refused == {}
        # The Service whose name sorts first has an address that two claim.
        owner = state[http]
        assert isinstance(owner, ServicePort)
        if owner.service == "n/good":
            target = state.get(MooringKey("10.244.9.9", http))
            assert isinstance(target, ClientTarget)
            assert target.target == Target("203.0.113.2", 8080)
        assert not any("bug in Moorage" in warning for warning in agent.warnings)
        assert all(warning.isprintable() for warning in agent.warnings)
