from typing import Any

import pytest

from moorage.errors import MoorageError
from moorage_lab.apiserver.addresses import AllocationError, ClusterIPs
from moorage_lab.apiserver.objects import Obj


def service(name: str = "s", **spec: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "n"}, "spec": {"type": "ClusterIP", **spec}}


def assigned(pool: ClusterIPs, obj: Obj, old: Obj | None = None) -> Obj:
    pool.assign(obj, old)
    pool.record(obj)
    spec: Obj = obj["spec"]
    return spec


V4, V6 = "10.96.0.0/16", "fd00:10:96::/108"


def test_each_service_gets_an_address_of_its_own_from_the_upper_band() -> None:
    pool = ClusterIPs([V4])
    specs = [assigned(pool, service(str(index))) for index in range(300)]
    addresses = {spec["clusterIP"] for spec in specs}
    assert len(addresses) == 300
    assert "10.96.0.10" not in addresses
    assert specs[0] == {
        "type": "ClusterIP",
        "clusterIP": "10.96.1.0",
        "clusterIPs": ["10.96.1.0"],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }


def test_a_released_address_is_not_given_out_again_at_once_but_when_the_range_is_full() -> None:
    pool = ClusterIPs(["192.0.2.0/28"])
    first = service("first")
    address = assigned(pool, first)["clusterIP"]
    pool.release(first)
    others = [assigned(pool, service(str(index)))["clusterIP"] for index in range(14)]
    assert others[0] != address
    assert address in others
    with pytest.raises(AllocationError, match="full"):
        pool.assign(service("last"), None)


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("10.96.0.10", "already allocated"),
        ("10.97.0.1", "does not match"),
        ("10.96.0.0", "does not match"),
        ("10.96.255.255", "does not match"),
        ("fd00::1", "not configured"),
        ("nope", "not an IP address"),
    ],
)
def test_a_wanted_address_must_be_free_and_in_range(address: str, why: str) -> None:
    pool = ClusterIPs([V4])
    assert assigned(pool, service("dns", clusterIP="10.96.0.10"))["clusterIPs"] == ["10.96.0.10"]
    with pytest.raises(AllocationError, match=why):
        pool.assign(service(clusterIP=address), None)


def test_dual_stack_has_one_address_of_each_family() -> None:
    pool = ClusterIPs([V4, V6])
    spec = assigned(pool, service("a", ipFamilyPolicy="PreferDualStack"))
    assert spec["ipFamilies"] == ["IPv4", "IPv6"]
    assert [":" in address for address in spec["clusterIPs"]] == [False, True]
    spec = assigned(pool, service("b", ipFamilyPolicy="RequireDualStack", ipFamilies=["IPv6", "IPv4"]))
    assert ":" in spec["clusterIP"]
    assert assigned(pool, service("c", ipFamilies=["IPv6"]))["ipFamilyPolicy"] == "SingleStack"


def test_a_cluster_of_one_family_prefers_but_cannot_require_two() -> None:
    pool = ClusterIPs([V6])
    assert assigned(pool, service("a", ipFamilyPolicy="PreferDualStack"))["ipFamilies"] == ["IPv6"]
    with pytest.raises(AllocationError, match="not configured for dual-stack"):
        pool.assign(service(ipFamilyPolicy="RequireDualStack"), None)


def test_headless_and_external_services_take_no_address() -> None:
    pool = ClusterIPs([V4])
    headless = assigned(pool, service(clusterIP="None", selector={"a": "b"}))
    assert headless["clusterIPs"] == ["None"]
    assert headless["ipFamilies"] == ["IPv4"]
    assert assigned(pool, service(clusterIP="None"))["ipFamilyPolicy"] == "RequireDualStack"
    assert "clusterIP" not in assigned(pool, service(type="ExternalName", externalName="x"))


def test_an_update_keeps_the_address_that_it_leaves_out_and_may_not_change_it() -> None:
    pool = ClusterIPs([V4])
    old = service()
    before = assigned(pool, old)
    assert assigned(pool, service(), old)["clusterIP"] == before["clusterIP"]
    with pytest.raises(AllocationError, match="may not change once set") as caught:
        pool.assign(service(clusterIP="10.96.9.9"), old)
    assert caught.value.cause.field == "spec.clusterIPs[0]"


def test_a_second_family_can_be_added_and_dropped() -> None:
    pool = ClusterIPs([V4, V6])
    old = service()
    first = assigned(pool, old)["clusterIP"]
    both = service(ipFamilyPolicy="PreferDualStack")
    assert assigned(pool, both, old)["clusterIPs"][0] == first
    assert len(both["spec"]["clusterIPs"]) == 2
    single = service(ipFamilyPolicy="SingleStack")
    assert assigned(pool, single, both)["clusterIPs"] == [first]


def test_changing_to_an_external_name_gives_the_address_up_and_back_gets_one() -> None:
    pool = ClusterIPs([V4])
    old = service()
    pool.assign(old, None)
    external = service(type="ExternalName", externalName="x", clusterIP=old["spec"]["clusterIP"])
    pool.assign(external, old)
    assert "clusterIPs" not in external["spec"]
    assert assigned(pool, service(), external)["clusterIP"]


@pytest.mark.parametrize("ranges", [["nope"], ["10.0.0.0/31"], [], [V4, "10.0.0.0/16"]])
def test_ranges_that_are_none_are_refused(ranges: list[str]) -> None:
    with pytest.raises(MoorageError, match="service range"):
        ClusterIPs(ranges)
