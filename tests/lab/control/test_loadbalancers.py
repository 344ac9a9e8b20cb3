from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.core_v1 import LoadBalancerIngress, LoadBalancerStatus, Service, ServiceStatus
from moorage_lab.control.loadbalancers import assign
from tests.support.lab_objects import service

RANGES = ["203.0.113.64/29", "2001:db8:1::/64"]


def balancer(name: str, *addresses: str, families: tuple[str, ...] = ("IPv4",), created: str = "1") -> Service:
    ingress = [LoadBalancerIngress(ip=address) for address in addresses]
    status = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=ingress))
    return service(name, type="LoadBalancer", families=families, status=status, created=created)


def assigned(*services: Service) -> dict[str, list[str]]:
    return {one.metadata.name: [entry.ip or "" for entry in ingress] for one, ingress in assign(services, RANGES)}


def test_a_load_balancer_gets_an_address_of_each_of_its_families() -> None:
    made = assigned(balancer("a"), balancer("b", families=("IPv6", "IPv4")))
    assert made == {"a": ["203.0.113.65"], "b": ["2001:db8:1::1", "203.0.113.66"]}


def test_who_has_its_addresses_keeps_them() -> None:
    assert assigned(balancer("new"), balancer("z", "203.0.113.65")) == {"new": ["203.0.113.66"]}


def test_an_address_of_another_range_is_replaced_and_of_two_owners_the_older_keeps_it() -> None:
    made = assigned(
        balancer("a", "198.51.100.9"),
        balancer("b", "203.0.113.66", created="2"),
        balancer("c", "203.0.113.66", created="1"),
    )
    assert made == {"a": ["203.0.113.65"], "b": ["203.0.113.67"]}


def test_who_is_no_load_balancer_any_more_loses_its_address() -> None:
    was = balancer("a", "203.0.113.65")
    assert assigned(replace(was, spec=replace(was.spec, type="ClusterIP"))) == {"a": []}
    assert assigned(service("plain")) == {}


def test_another_clouds_class_is_not_ours() -> None:
    for theirs in (balancer("a"), balancer("a", "198.51.100.9"), balancer("a", "203.0.113.65")):
        other = replace(theirs, spec=replace(theirs.spec, load_balancer_class="example.com/other"))
        assert assigned(other) == {}
    named = ServiceStatus(load_balancer=LoadBalancerStatus(ingress=[LoadBalancerIngress(hostname="db.example.com")]))
    assert assigned(replace(other, status=named)) == {}


def test_a_wish_is_honoured_where_it_is_free_and_of_the_range() -> None:
    def wishing(name: str, ip: str) -> Service:
        return replace(balancer(name), spec=replace(balancer(name).spec, load_balancer_ip=ip))

    made = assigned(
        wishing("a", "203.0.113.68"),
        wishing("b", "203.0.113.68"),
        wishing("c", "192.0.2.1"),
        wishing("d", "no address"),
    )
    assert made == {"a": ["203.0.113.68"], "b": ["203.0.113.65"], "c": ["203.0.113.66"], "d": ["203.0.113.67"]}


@given(st.lists(st.booleans(), max_size=9))
def test_no_address_is_given_twice_and_a_full_range_gives_none(kept: list[bool]) -> None:
    has = {f"s{n}": [f"203.0.113.{65 + n}"] if keep and n < 6 else [] for n, keep in enumerate(kept)}
    final = has | assigned(*(balancer(name, *addresses) for name, addresses in has.items()))
    given_out = [ip for ips in final.values() for ip in ips]
    assert len(set(given_out)) == len(given_out) == min(6, len(has))
