"""Endpoints follow lists, names and other clusters; nothing inside the cluster becomes one, from whichever source."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from dns import rcode

from e2e.harness.following import HERE, THERE, Following, RefusedError, following

REFUSED = {
    "loopback": ("127.0.0.2", "a loopback address"),
    "unspecified": ("0.0.0.0", "the unspecified address"),
    "link-local": ("169.254.7.7", "a link-local address"),
    "metadata": ("169.254.169.254", "a cloud metadata address"),
    "azure-metadata": ("168.63.129.16", "a cloud metadata address"),
    "multicast": ("224.0.0.1", "a multicast address"),
    "service-range": ("10.96.7.7", "in the service range 10.96.0.0/16 of this cluster"),
    "pod-range": ("10.244.1.7", "the address of a pod of this cluster, by its range 10.244.1.0/24"),
    "pod": ("198.19.0.7", "the address of a pod of this cluster"),
    "node": ("192.0.2.10", "an address of a node of this cluster"),
}
REFUSED6 = {
    "loopback6": ("::1", "a loopback address"),
    "link-local6": ("fe80::1", "a link-local address"),
    "metadata6": ("fd00:ec2::254", "a cloud metadata address"),
    "mapped": ("::ffff:127.0.0.2", "a loopback address in IPv4-mapped form"),
    "nat64": ("64:ff9b::169.254.169.254", "a cloud metadata address in NAT64 form"),
    "nat64-service": ("64:ff9b::10.96.7.7", "the NAT64 form of 10.96.7.7, in the service range"),
}
GOOD = "203.0.113.1"


@pytest.fixture(scope="module")
def running() -> Iterator[Following]:
    with following() as made:
        api = made.api
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
                "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]}}  # fmt: skip
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": HERE},
               "spec": {"containers": [{"name": "web", "image": "web"}], "nodeName": "node-1"}}  # fmt: skip
        made.apply(node)
        made.apply(pod)
        made.status("Node", "node-1", {"addresses": [{"type": "InternalIP", "address": "192.0.2.10"}]}, None)
        made.status("Pod", "web", {"phase": "Running", "podIP": "198.19.0.7", "podIPs": [{"ip": "198.19.0.7"}]})
        api.kubectl("create", "role", "secrets", "-n", HERE, "--verb=get,list,watch", "--resource=secrets")
        account = "moorage-system:moorage-operator"
        api.kubectl("create", "rolebinding", "secrets", "-n", HERE, "--role=secrets", f"--serviceaccount={account}")
        made.secret("cluster-a", made.kubeconfig())
        yield made


def dns(name: str, type: str) -> dict[str, Any]:
    return {"dns": {"name": name, "type": type}}


def cluster(**labels: str) -> dict[str, Any]:
    ref = {"name": "cluster-a", "key": "kubeconfig"}
    return {"cluster": {"kubeconfigSecretRef": ref, "namespace": THERE, "selector": {"matchLabels": labels}}}


def static(*addresses: str) -> dict[str, Any]:
    return {"addresses": [{"address": address} for address in addresses]}


# --- what is refused ------------------------------------------------------------------------------------------------


def bad(name: str, kind: str, address: str, running: Following) -> dict[str, Any]:
    """A source of this kind that finds `address`."""
    host = f"{name}.example.com"
    type = "AAAA" if ":" in address else "A"
    match kind:
        case "addresses":
            return static(address)
        case "dns":
            running.names.put(host, type, address)
            return dns(host, type)
        case "srv":
            running.names.put(host, type, address)
            running.names.put(f"_http._tcp.{host}", "SRV", f"0 1 80 {host}.")
            return dns(f"_http._tcp.{host}", "SRV")
        case "cluster":
            running.balancer(name, {"ip": address}, labels={"case": name})
            return cluster(case=name)
        case _:
            running.names.put(host, type, address)
            running.balancer(name, {"hostname": host}, labels={"case": name})
            return cluster(case=name)


KINDS = ("addresses", "dns", "srv", "cluster", "cluster-host-name")


@pytest.fixture(scope="module")
def asked(running: Following) -> dict[tuple[str, str], str]:
    """An ExternalService for each kind of source and each bad address, beside a good one; what the API said to it."""
    answers = {}
    for kind, (what, (address, _)) in itertools.product(KINDS, [*REFUSED.items(), *REFUSED6.items()]):
        name = f"{kind}-{what}"
        family = "IPv6" if ":" in address else "IPv4"
        good = static("2001:db8::1" if family == "IPv6" else GOOD)
        try:
            running.external(name, bad(name, kind, address, running), good, ipFamilies=[family])
            answers[kind, what] = ""
        except RefusedError as error:
            answers[kind, what] = str(error)
    return answers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", [*REFUSED, *REFUSED6])
def test_an_address_inside_the_cluster_or_on_the_machine_is_refused_from_every_source(
    running: Following, asked: dict[tuple[str, str], str], kind: str, what: str
) -> None:
    address, why = {**REFUSED, **REFUSED6}[what]
    if said := asked[kind, what]:
        # The API server itself refused it: the special ones it knows by the schema, and mapped ones as no addresses.
        assert address in said
        assert kind in ("addresses", "cluster")
        return
    name = f"{kind}-{what}"
    if (kind, what) == ("cluster", "mapped"):
        # Kubernetes reads it as the IPv4 address, which is not of the family that this one has.
        running.until_condition(name, "Resolved", "True", "Resolved", "1 endpoint from")
    else:
        message = running.until_condition(name, "Accepted", "False", "AddressRefused", why)
        assert message.startswith("spec.endpoints[0]")
    if ":" not in address:
        running.until(name, {GOOD.replace(".", "-"): GOOD})
    # A namespace follows no more than so many clusters at once.
    running.delete("moorage.dev/v1alpha1", "ExternalService", name)


# --- what is followed -----------------------------------------------------------------------------------------------


def test_a_name_is_followed_kept_through_failures_and_emptied_by_an_empty_answer(running: Following) -> None:
    running.names.put("db.example.com", "A", "203.0.113.11", "203.0.113.12", ttl=1)
    running.external("db", dns("db.example.com", "A"))
    both = {"203-0-113-11": "203.0.113.11", "203-0-113-12": "203.0.113.12"}
    running.until("db", both)
    try:
        running.names.rcode = rcode.SERVFAIL
        message = running.until_condition("db", "Resolved", "False", "LookupFailed", "SERVFAIL", "since 20")
        assert "its last 2 endpoints stay in use" in message
        running.names.rcode = rcode.REFUSED
        running.until_condition("db", "Resolved", "False", "LookupFailed", "REFUSED")
        running.names.rcode, running.names.silent = None, True
        running.until_condition("db", "Resolved", "False", "LookupFailed", "no answer from")
        assert running.endpoints("db") == both
    finally:
        running.names.rcode, running.names.silent = None, False
    running.until_condition("db", "Resolved", "True", "Resolved")
    running.names.put("db.example.com", "A", "203.0.113.12", ttl=1)
    running.until("db", {"203-0-113-12": "203.0.113.12"})
    running.names.put("db.example.com", "A")
    running.until("db", {})


def test_srv_targets_keep_their_names_when_their_addresses_change(running: Following) -> None:
    running.names.put("_db._tcp.example.com", "SRV", "10 5 80 db1.example.com.", "20 5 80 db2.example.com.", ttl=1)
    running.names.put("db1.example.com", "A", "203.0.113.21", ttl=1)
    running.names.put("db2.example.com", "A", "203.0.113.22", ttl=1)
    running.external("srv", dns("_db._tcp.example.com", "SRV"))
    running.until("srv", {"db1-example-com": "203.0.113.21", "db2-example-com": "203.0.113.22"})
    running.names.put("db1.example.com", "A", "203.0.113.29", ttl=1)
    running.until("srv", {"db1-example-com": "203.0.113.29", "db2-example-com": "203.0.113.22"})
    status = running.get("moorage.dev/v1alpha1", "ExternalService", "srv")["status"]
    assert [each.get("priority") for each in status["endpoints"]] == [10, 20]


def test_another_clusters_load_balancers_are_followed(running: Following) -> None:
    labels = {"app": "followed"}
    running.balancer("backend1", {"ip": "203.0.113.31"}, labels=labels)
    running.balancer("backend2", labels=labels)
    running.external("followed", cluster(app="followed"))
    running.until("followed", {"backend1": "203.0.113.31"})
    running.until_condition(
        "followed", "Resolved", "True", "Resolved", "Service backend/backend2 has no load-balancer address yet"
    )
    running.balancer("backend2", {"ip": "203.0.113.32"}, labels=labels)
    running.until("followed", {"backend1": "203.0.113.31", "backend2": "203.0.113.32"})
    running.balancer("backend1", {"ip": "203.0.113.39"}, labels=labels)
    running.until("followed", {"backend1": "203.0.113.39", "backend2": "203.0.113.32"})
    running.api.kubectl("delete", "service", "backend2", "-n", THERE)
    running.until("followed", {"backend1": "203.0.113.39"})


def test_a_load_balancers_host_name_is_followed(running: Following) -> None:
    running.names.put("lb.example.com", "A", "203.0.113.41", "203.0.113.42", ttl=1)
    running.balancer("aws", {"hostname": "lb.example.com"}, labels={"app": "aws"})
    running.external("aws", cluster(app="aws"))
    running.until("aws", {"aws": "203.0.113.41"})
    running.names.put("lb.example.com", "A", "203.0.113.40", "203.0.113.41", ttl=1)
    running.names.put("mark.example.com", "A", "203.0.113.49", ttl=1)
    running.external("aws", cluster(app="aws"), dns("mark.example.com", "A"))
    running.until("aws", {"aws": "203.0.113.41", "203-0-113-49": "203.0.113.49"})
    running.names.put("lb.example.com", "A", "203.0.113.40", ttl=1)
    running.until("aws", {"aws": "203.0.113.40", "203-0-113-49": "203.0.113.49"})


# --- names that collide ---------------------------------------------------------------------------------------------


def test_of_two_endpoints_of_one_name_the_first_is_used_and_it_is_said(running: Following) -> None:
    running.balancer("twice", {"ip": "203.0.113.51"}, labels={"app": "twice"})
    named = {"addresses": [{"name": "twice", "address": "203.0.113.52"}]}
    running.external("collides", named, cluster(app="twice"))
    running.until_condition("collides", "Accepted", "True", "Accepted", "spec.endpoints[1]", "twice")
    running.until("collides", {"twice": "203.0.113.52"})


def test_a_service_of_somebody_else_is_left_alone(running: Following) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "taken", "namespace": HERE},
               "spec": {"ports": [{"port": 80}], "selector": {"app": "mine"}}}  # fmt: skip
    running.apply(service)
    before = running.get("v1", "Service", "taken")
    running.external("taken", static(GOOD))
    running.api.eventually(
        "a condition says so",
        lambda: (
            running.condition("taken", "Ready")["status"] == "False"
            and "taken" in running.condition("taken", "Ready")["message"]
        ),
    )
    assert running.get("v1", "Service", "taken") == before
    assert running.endpoints("taken") == {}
