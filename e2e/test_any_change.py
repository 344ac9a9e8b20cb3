"""Any valid change of an ExternalService is carried out, and its cluster IP stays."""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from e2e.harness.following import HERE, Following, RefusedError, following
from moorage.api.contract import PROXY_LABEL

CHANGES = 40
NAME = "changing"


@pytest.fixture(scope="module")
def world() -> Iterator[Following]:
    with following() as running:
        yield running


def ports(random_: random.Random) -> list[dict[str, Any]]:
    """One to three, of the same numbers and names again and again."""
    numbers = [(port, protocol) for port in (53, 80, 443) for protocol in ("TCP", "UDP")]
    chosen = random_.sample(numbers, random_.choice((1, 1, 1, 2, 3)))
    names = random_.sample(("a", "b", "http", "x-1"), len(chosen))
    return [
        {
            "port": port,
            "protocol": protocol,
            **({"name": name} if len(chosen) > 1 or random_.random() < 0.5 else {}),
            **({"targetPort": random_.choice((80, 8080))} if random_.random() < 0.5 else {}),
            **({"appProtocol": random_.choice(("http", "kubernetes.io/h2c"))} if random_.random() < 0.3 else {}),
        }
        for (port, protocol), name in zip(chosen, names, strict=True)
    ]


def addresses(random_: random.Random, own_port: bool) -> dict[str, Any]:
    """A source of up to 120 addresses of both families, half of them with names that come again."""
    found: dict[str, Any] = {}
    for _ in range(random_.choice((1, 3, 120))):
        number = random_.randint(1, 254)
        one: dict[str, Any] = {
            "address": f"203.0.113.{number}" if random_.random() < 0.8 else f"2001:db8::{number:x}"
        }
        if random_.random() < 0.5:
            one["name"] = f"e{random_.randint(1, 150)}"
        if own_port and random_.random() < 0.2:
            one["port"] = random_.choice((80, 8080))
        if random_.random() < 0.2:
            one["weight"] = random_.choice((1, 100))
        found.setdefault(one.get("name", one["address"]), one)
    return {"addresses": list(found.values())}


def spec(random_: random.Random) -> dict[str, Any]:
    """A valid one. Without checks, so that nothing is sent to these addresses."""
    made: dict[str, Any] = {"ports": ports(random_)}
    own_port = len(made["ports"]) == 1
    made["endpoints"] = [addresses(random_, own_port) for _ in range(random_.choice((0, 1, 1, 2)))]
    made["proxy"] = random_.choice(("kube-proxy", "moorage"))
    made["sessionAffinity"] = random_.choice(("None", "ClientIP", "Mooring"))
    config: dict[str, Any] = {}
    if made["sessionAffinity"] != "None" and random_.random() < 0.5:
        config["clientIP"] = {"timeoutSeconds": random_.choice((1, 86400))}
    if made["sessionAffinity"] == "Mooring":
        config["mooring"] = {"podSelector": {}} if made["proxy"] == "moorage" else {"client": "Node"}
    elif random_.random() < 0.3:
        made["trafficDistribution"] = "PreferSameZone"
    if config:
        made["sessionAffinityConfig"] = config
    if random_.random() < 0.3:
        made["ipFamilyPolicy"] = random_.choice(("SingleStack", "PreferDualStack"))
    if random_.random() < 0.3:
        made["drain"] = [{"endpoint": f"e{random_.randint(1, 20)}"}]
    return made


def unlike(world: Following, wanted: dict[str, Any]) -> list[str]:
    """What is not yet as the spec says."""
    xsvc = world.get("moorage.dev/v1alpha1", "ExternalService", NAME)
    status = xsvc.get("status", {})
    if status.get("observedGeneration") != xsvc["metadata"]["generation"]:
        return ["the status is of an earlier spec"]
    service = world.get("v1", "Service", NAME)
    slices = [
        one
        for one in world.get("discovery.k8s.io/v1", "EndpointSlice")["items"]
        if one["metadata"]["labels"].get("kubernetes.io/service-name") == NAME
    ]
    names = [endpoint["hostname"] for one in slices for endpoint in one.get("endpoints") or ()]
    said = {condition["type"]: condition for condition in status["conditions"]}
    labels = [one["metadata"].get("labels", {}) for one in (service, *slices)]
    fields = ("name", "port", "protocol", "appProtocol")
    checks = {
        "ports": [[one.get(field) for field in fields] for one in service["spec"]["ports"]]
        == [[one.get(field) for field in fields] for one in wanted["ports"]],
        "target ports": [one["targetPort"] for one in service["spec"]["ports"]]
        == [one.get("targetPort", one["port"]) for one in wanted["ports"]],
        "traffic distribution": service["spec"].get("trafficDistribution") == wanted.get("trafficDistribution"),
        "affinity": service["spec"]["sessionAffinity"]
        == ("None" if wanted["sessionAffinity"] == "None" else "ClientIP"),
        "proxy": {each.get(PROXY_LABEL) for each in labels} == {"moorage" if wanted["proxy"] == "moorage" else None},
        "port names of slices": all(
            {port["name"] for port in one["ports"]} == {port.get("name", "") for port in wanted["ports"]}
            for one in slices
        ),
        "each endpoint once": sorted(names) == [each["name"] for each in status.get("endpoints", ())],
        "at most 100 in a slice": all(len(one["endpoints"]) <= 100 for one in slices),
        "written": said["Ready"]["reason"] != "WriteRefused",
    }
    return [what for what, holds in checks.items() if not holds]


def test_any_valid_change_is_carried_out_and_the_cluster_ip_stays(world: Following) -> None:
    random_ = random.Random(1)
    cluster_ips = set()
    for number in range(CHANGES):
        wanted = spec(random_)
        world.external(NAME, *wanted.pop("endpoints"), **wanted)
        last: list[str] = []

        def done(wanted: dict[str, Any] = wanted, last: list[str] = last) -> bool:
            try:
                last[:] = unlike(world, wanted)
            except RefusedError as error:
                last[:] = [str(error)]
            return not last

        try:
            world.api.eventually(f"change {number}", done, seconds=30)
        except Exception as error:
            error.add_note(f"not as wanted: {last}; wanted: {wanted}")
            raise
        cluster_ips.add(world.get("v1", "Service", NAME)["spec"]["clusterIP"])
    assert len(cluster_ips) == 1
    assert world.get("v1", "Service", NAME)["metadata"]["namespace"] == HERE
