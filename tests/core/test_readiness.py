"""Which endpoints take new connections."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.discovery_v1 import Endpoint as ApiEndpoint
from moorage.api.discovery_v1 import EndpointConditions, EndpointSlice
from moorage.api.moorage_v1alpha1 import Drain, EndpointStatus, ExternalServiceStatus
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage.core.model import Endpoint, Health, Verdict
from moorage.core.readiness import Readiness, readiness_of, without_service
from testing.xsvc import xsvc

HEALTHS: tuple[Health, ...] = ("Healthy", "Unhealthy", "Unknown")


def stand(
    priorities: dict[str, int] | None = None,
    before: dict[str, bool] | None = None,
    families: list[str] | None = None,
    written: dict[str, bool] | None = None,
    turning: Sequence[str] = (),
    threshold: int = 0,
    **given: Health,
) -> Readiness:
    """Of endpoints with these healths, in order; `before`: whether each was ready by the slices, `written`: by the
    status; `turning`: those whose last check says otherwise."""
    spec: dict[str, Any] = {}
    if drained := [name for name in given if name.startswith("drained")]:
        spec["drain"] = [Drain(endpoint=name) for name in drained]
    status = ExternalServiceStatus(
        endpoints=[
            EndpointStatus(name=name, address="203.0.113.1", source="addresses", health="Unknown", ready=ready)
            for name, ready in (written or {}).items()
        ]
    )
    check = HealthCheck(panic_threshold_percent=threshold)
    service = replace(xsvc(health_check=check, **spec), status=status)
    each = [
        Endpoint(
            name,
            f"2001:db8::{number}" if name.startswith("six") else f"203.0.113.{number}",
            "addresses",
            priority=(priorities or {}).get(name, 0),
            leaving=name.startswith("leaving"),
        )
        for number, name in enumerate(given, 1)
    ]
    slices = [
        EndpointSlice(
            address_type="IPv4",
            endpoints=[
                ApiEndpoint(
                    addresses=["203.0.113.1"],
                    hostname=name,
                    conditions=EndpointConditions(ready=ready, serving=ready),
                )
                for name, ready in (before or {}).items()
            ],
        )
    ]
    verdicts = {name: Verdict(health, turning=name in turning) for name, health in given.items()}
    return readiness_of(service, each, verdicts, slices, families)


def ready(result: Readiness) -> list[str]:
    return [each.endpoint.name for each in result.rows if each.ready]


def serving(result: Readiness) -> list[str]:
    return [each.endpoint.name for each in result.rows if each.serving]


def test_one_that_is_leaving_keeps_its_clients_and_takes_no_new_ones() -> None:
    result = stand(a="Healthy", leaving="Healthy")
    assert (ready(result), serving(result)) == (["a"], ["a", "leaving"])
    assert result.rows[1].withheld == "Leaving"
    assert (ready(stand(leaving="Healthy")), serving(stand(leaving="Healthy"))) == ([], ["leaving"])
    assert serving(stand(leaving="Unhealthy")) == []


def test_one_that_is_leaving_neither_counts_for_panic_nor_holds_back_another_priority() -> None:
    assert stand(a="Unhealthy", leaving="Healthy", before={"a": True}).panic
    assert ready(stand({"leaving": 10, "a": 20}, leaving="Healthy", a="Healthy")) == ["a"]


def test_healthy_ones_are_ready_and_unhealthy_ones_do_not_even_serve() -> None:
    result = stand(a="Healthy", b="Unhealthy")
    assert (ready(result), serving(result)) == (["a"], ["a"])


def test_an_unknown_one_is_ready_only_if_it_was() -> None:
    result = stand(a="Unknown", b="Unknown", c="Unknown", before={"b": True, "c": False}, written={"c": True})
    assert (ready(result), serving(result)) == (["b"], ["b"])


def test_the_status_counts_where_the_slices_say_nothing() -> None:
    assert ready(stand(a="Unknown", b="Unknown", written={"a": True, "b": False})) == ["a"]


def test_where_nothing_is_checked_all_are_ready() -> None:
    result = readiness_of(xsvc(health_check=None), [Endpoint("a", "203.0.113.1", "addresses")], {}, [], None)
    assert ready(result) == ["a"]


def test_a_drained_one_serves_whom_it_has() -> None:
    result = stand(a="Healthy", drained="Healthy", drained2="Unhealthy")
    assert (ready(result), serving(result)) == (["a"], ["a", "drained"])
    assert result.rows[1].withheld == "Drained"


def test_only_those_of_the_lowest_priority_number_are_ready() -> None:
    result = stand({"b": 10, "c": 10}, a="Healthy", b="Healthy", c="Unhealthy")
    assert (ready(result), serving(result)) == (["a"], ["a", "b"])
    assert (result.rows[1].withheld, result.priority) == ("StandsBy", 0)


def test_the_next_priority_is_used_when_none_of_the_first_is_healthy() -> None:
    assert ready(stand({"b": 10, "c": 20}, a="Unhealthy", b="Healthy", c="Healthy")) == ["b"]


def test_a_drained_one_does_not_hold_others_back() -> None:
    assert ready(stand({"b": 10}, drained="Healthy", b="Healthy")) == ["b"]


def test_when_none_is_healthy_those_that_were_ready_stay_so() -> None:
    result = stand(a="Unhealthy", b="Unhealthy", before={"a": True, "b": False})
    assert (ready(result), serving(result), result.panic) == (["a"], ["a"], True)


def test_a_healthy_one_that_is_drained_does_not_end_a_panic() -> None:
    """Else nobody would be left."""
    result = stand(a="Unhealthy", drained="Healthy", before={"a": True})
    assert (ready(result), result.panic) == (["a"], True)


def test_in_a_panic_connections_to_drained_and_standby_ones_last_too() -> None:
    result = stand(
        {"b": 10},
        before={"a": True, "b": True, "drained": True, "dead": False},
        a="Unhealthy", b="Unhealthy", drained="Unhealthy", dead="Unhealthy",
    )  # fmt: skip
    assert (ready(result), serving(result)) == (["a"], ["a", "b", "drained"])


def test_a_priority_is_not_kept_by_a_panic_while_another_has_one_that_is_up() -> None:
    before = {"a": True, "a2": True, "a3": True}
    for result in (
        stand({"b": 10}, before, threshold=50, a="Unhealthy", b="Healthy"),
        stand({"b": 10}, before, threshold=30, a="Unhealthy", a2="Unhealthy", a3="Unhealthy", b="Healthy"),
    ):
        assert (ready(result), result.panic) == (["b"], False)
        assert {each.withheld for each in result.rows} == {None}


def test_where_all_fail_one_after_the_other_the_priority_in_use_stays_although_a_standby_is_the_last() -> None:
    result = stand({"b": 10}, {"a": True}, turning=["b"], a="Unhealthy", b="Healthy")
    assert (ready(result), result.panic) == (["a"], True)


def test_where_all_recover_one_after_the_other_the_priority_in_use_stays_although_a_standby_is_the_first() -> None:
    result = stand({"b": 10}, {"a": True}, turning=["a"], a="Unhealthy", b="Healthy")
    assert (ready(result), result.panic) == (["a"], True)
    assert ready(stand({"b": 10}, {"a": True}, a="Unhealthy", b="Healthy")) == ["b"]


def test_in_a_panic_the_priority_that_was_used_stays_in_use() -> None:
    result = stand({"b": 10}, a="Unhealthy", b="Unhealthy", before={"a": False, "b": True})
    assert ready(result) == ["b"]


def test_endpoints_of_a_family_that_the_service_lacks_are_not_ready() -> None:
    result = stand(a="Healthy", six="Healthy", families=["IPv4"])
    assert ready(result) == ["a"]
    assert result.rows[1].withheld == "NoFamily"
    assert ready(stand(a="Healthy", six="Healthy", families=["IPv4", "IPv6"])) == ["a", "six"]
    assert ready(stand(a="Healthy", six="Healthy", families=None)) == ["a", "six"]


def test_one_that_cannot_be_reached_does_not_hold_others_of_lower_priority_back() -> None:
    assert ready(stand({"a": 10}, six="Healthy", a="Healthy", families=["IPv4"])) == ["a"]


def test_one_that_is_not_carried_does_not_end_a_panic() -> None:
    """Else nobody would be left."""
    result = stand(a="Unhealthy", six="Healthy", before={"a": True}, families=["IPv4"])
    assert (ready(result), result.panic) == (["a"], True)


@pytest.mark.parametrize("health", ["Unknown", "Unhealthy"])
def test_one_that_is_renamed_stays_in_use_while_nothing_better_is_known(health: Health) -> None:
    result = stand(renamed=health, before={"a": True}, written={"a": True})
    assert (ready(result), serving(result)) == (["renamed"], ["renamed"])
    assert ready(stand(renamed=health, before={"a": False}, written={"a": True})) == []
    assert ready(stand(renamed=health, a="Healthy", before={"a": True}, written={"a": True})) == ["a"]


def test_without_a_service_of_ours_none_is_ready() -> None:
    result = without_service(stand(a="Healthy"))
    assert [(each.ready, each.withheld) for each in result.rows] == [(False, "NameTaken")]


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c", "drained"]), st.sampled_from(HEALTHS), min_size=1),
    st.dictionaries(st.sampled_from(["a", "b", "c", "drained"]), st.booleans()),
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(0, 2)),
    st.lists(st.sampled_from(["a", "b", "c", "drained"])),
    st.integers(0, 100),
)
def test_whatever_the_checks_say(
    given: dict[str, Health],
    before: dict[str, bool],
    priorities: dict[str, int],
    turning: list[str],
    threshold: int,
) -> None:
    result = stand(priorities, before, None, None, turning, threshold, **given)
    names = set(ready(result))
    assert names <= set(serving(result))
    assert "drained" not in names
    if any(health == "Healthy" for name, health in given.items() if name != "drained"):
        assert names, "a healthy endpoint that is not drained is there to be used"
    assert result.panic == any(given[name] == "Unhealthy" for name in names)
    assert len({priorities.get(name, 0) for name in names}) <= 1


@pytest.mark.parametrize("health", HEALTHS)
def test_published_as_it_was_it_stays_so(health: Health) -> None:
    first = stand(a=health, b="Healthy", before={"a": True})
    again = stand(a=health, b="Healthy", before={each.endpoint.name: each.ready for each in first.rows})
    assert again == first
