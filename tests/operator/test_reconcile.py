"""What the operator does about an ExternalService: as things are now, however they came to be so."""

import asyncio
from typing import Any

import msgspec
import pytest

from moorage.api.core_v1 import Pod, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.errors import ApiError
from moorage.core.health import Outcome
from moorage.core.model import Found, Problem
from moorage.operator import records
from moorage_lab.apiserver import credentials
from testing.eventually import eventually
from testing.gitops import kstatus
from tests.support.operators import KEY, REFUSED, Operator, xsvc

ONE, TWO, THREE = "203.0.113.1", "203.0.113.2", "203.0.113.3"


async def test_a_new_one_gets_its_service_slice_and_status_with_one_write_each(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        assert (await op.says("Ready", "Ready")).status == "True"
        await op.rests()
        assert op.writes() == {
            "Service create ok": 1,
            "EndpointSlice create ok": 1,
            "ExternalService status ok": 1,
        }
        assert (await op.xsvc()).status.healthy == "2/2"
        assert "EndpointHealthy" in await op.events()


async def test_kstatus_takes_it_for_current_once_clients_are_served_and_never_before(op: Operator) -> None:
    async def judged() -> str:
        found = kstatus(msgspec.to_builtins(await op.xsvc()))
        assert (found == "Current") <= (await op.published() == {ONE: True})
        return found

    async def becomes(wanted: str) -> None:
        async def so() -> bool:
            return await judged() == wanted

        await eventually(so)

    source = [{"dns": {"name": "db.example.com"}}]
    await op.apply(xsvc("backend", endpoints=source))
    assert await judged() == "InProgress"
    async with op.running():
        await op.says("Resolved", "Pending")
        assert await judged() == "InProgress"
        op.sources.say(KEY, Found("one", ONE))
        await becomes("Current")
        op.sources.say(KEY)
        await op.apply(xsvc("backend", endpoints=source, group="other"))
        await becomes("InProgress")
        op.sources.say(KEY, Found("one", "127.0.0.1"))
        await becomes("Failed")


async def test_a_steady_state_is_left_alone_also_by_the_next_leader(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.says("Ready", "Ready")
        await op.rests()
    await op.next_leader_writes_nothing()


async def test_an_endpoint_that_dies_is_taken_out_and_comes_back(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        address = (await op.service()).spec.cluster_ip
        op.down.add(ONE)
        op.prober.check(times=2)
        await op.publishes({ONE: False, TWO: True})
        found = await op.says("Healthy", "SomeUnhealthy")
        assert REFUSED in found.message
        op.down.clear()
        op.prober.check()
        await op.publishes({ONE: True, TWO: True})
        assert (await op.service()).spec.cluster_ip == address


async def test_all_that_were_ready_stay_when_none_is_healthy(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        op.down.update([ONE, TWO])
        op.prober.check(times=2)
        await op.says("Healthy", "Panic")
        await op.rests()
        assert await op.published() == {ONE: True, TWO: True}
        op.down.clear()
        op.prober.check(times=2)
        await op.says("Healthy", "AllHealthy")
        assert await op.published() == {ONE: True, TWO: True}


async def test_one_that_died_while_the_other_failed_a_check_goes_two_checks_after_that_one_passed(
    op: Operator,
) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        op.prober.tell(KEY, "203-0-113-2", Outcome(False, REFUSED))
        for _ in range(2):
            op.prober.tell(KEY, "203-0-113-1", Outcome(False, REFUSED))
        found = await op.says("Healthy", "Panic")
        assert found.message.startswith("1 of 2 healthy, but their last checks say otherwise, so all are doubted")
        assert await op.published() == {ONE: True, TWO: True}
        op.prober.tell(KEY, "203-0-113-2", Outcome(True))
        op.prober.tell(KEY, "203-0-113-1", Outcome(False, REFUSED))
        await op.rests()
        assert await op.published() == {ONE: True, TWO: True}
        op.prober.tell(KEY, "203-0-113-1", Outcome(False, REFUSED))
        await op.publishes({ONE: False, TWO: True})


async def test_another_reason_for_the_same_verdict_is_not_worth_a_write(op: Operator) -> None:
    async with op.running():
        op.down.add(ONE)
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: False, TWO: True})
        await op.rests()
        before = op.writes()
        for number in range(20):
            op.prober.tell(KEY, "203-0-113-1", Outcome(False, f"another reason {number % 2}"))
        await op.rests()
        assert op.writes() == before


async def test_one_that_is_never_at_rest_has_its_share_of_the_time_and_no_more(
    op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SHARE", 1e-6)
    monkeypatch.setattr(records, "BURST_SECONDS", 1.0)
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        await op.rests()
        before = op.writes()
        for address in (ONE, TWO) * 10:
            op.down ^= {address}
            op.prober.check(times=2)
        await op.rests()
        assert op.writes() == before
        await op.apply(xsvc("other", ONE))
        await op.publishes({ONE: True}, "other")


async def test_a_refusal_in_other_words_each_time_is_not_tried_again_and_again(
    op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SHARE", 1e-6)
    monkeypatch.setattr(records, "BURST_SECONDS", 1.0)
    create = op.client.create
    tried: list[Service] = []

    async def refused(obj: Any) -> Any:
        if not isinstance(obj, Service):
            return await create(obj)
        tried.append(obj)
        raise ApiError(403, "Forbidden", f"admission webhook denied the request (request {len(tried)})")

    monkeypatch.setattr(op.client, "create", refused)
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        assert (await op.says("Ready", "WriteRefused")).message.endswith("(request 1)")
        await op.rests()
        assert len(tried) == 1


async def test_work_that_the_end_of_a_term_cuts_off_counts_as_nothing(
    op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = asyncio.Event()

    async def hangs(obj: Service) -> Service:
        begun.set()
        return await asyncio.Future()

    async with op.running():
        monkeypatch.setattr(op.client, "create", hangs)
        await op.apply(xsvc("backend", ONE))
        await asyncio.wait_for(begun.wait(), 20)
    assert 'moorage_reconciles_total{result="error"}' not in op.metrics.text().decode()


async def test_what_is_kept_of_a_silent_source_is_refused_once_it_is_a_pods_address(op: Operator) -> None:
    spec = {"endpoints": [{"dns": {"name": "db.example.com"}}]}
    async with op.running():
        await op.apply(xsvc("backend", **spec))
        op.sources.say(KEY, Found("one", ONE), Found("two", TWO))
        await op.publishes({ONE: True, TWO: True})
        await op.rests()
    async with op.running():
        await op.rests()
        assert await op.published() == {ONE: True, TWO: True}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}}
        await op.apply({**pod, "spec": {"containers": [{"name": "c", "image": "i"}]}})
        await op.client.patch(Pod, "default", "p", {"status": {"podIP": ONE}}, subresource="status")
        await op.publishes({TWO: True})


async def test_the_service_keeps_its_address_through_every_change(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        address, uid = (await op.service()).spec.cluster_ip, (await op.service()).metadata.uid
        await op.apply(xsvc("backend", TWO, THREE, sessionAffinity="ClientIP", ports=[{"port": 9001}]))
        await op.publishes({TWO: True, THREE: True})

        async def has_changed() -> bool:
            spec = (await op.service()).spec
            return spec.session_affinity == "ClientIP" and [port.port for port in spec.ports or ()] == [9001]

        await eventually(has_changed)
        service = await op.service()
        assert (service.spec.cluster_ip, service.metadata.uid) == (address, uid)


async def test_what_somebody_changed_or_deleted_is_put_right(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        [slice_] = await op.slices()
        wrong = [{"addresses": ["203.0.113.66"], "conditions": {}}]
        await op.client.patch(EndpointSlice, "default", slice_.metadata.name, {"endpoints": wrong})
        await op.publishes({ONE: True, TWO: True})
        await op.client.delete(EndpointSlice, "default", slice_.metadata.name)
        await op.publishes({ONE: True, TWO: True})
        await op.client.patch(Service, "default", "backend", {"spec": {"selector": {"app": "mine"}}})

        async def has_no_selector() -> bool:
            return not (await op.service()).spec.selector

        await eventually(has_no_selector)


async def test_what_it_owns_goes_with_it_and_nothing_is_followed_any_more(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        await op.client.delete(ExternalService, "default", "backend")

        async def all_gone() -> bool:
            return "backend" not in await op.services() and not await op.slices()

        await eventually(all_gone)
        await op.rests()
        assert op.prober.checked == {}
        assert op.sources.followed == {}
        await op.apply(xsvc("backend", TWO))
        await op.publishes({TWO: True})


async def test_one_that_is_suspended_is_left_as_it_is(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        await op.apply(xsvc("backend", THREE, suspend=True))
        await op.says("Ready", "Suspended")
        await op.rests()
        assert op.prober.checked == {}
        assert await op.published() == {ONE: True, TWO: True}
        await op.apply(xsvc("backend", THREE))
        await op.publishes({THREE: True})


async def test_a_service_of_somebody_else_is_not_taken_over(op: Operator) -> None:
    mine = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "backend", "namespace": "default"}}
    await op.apply(mine | {"spec": {"ports": [{"port": 80}]}})
    before = await op.service()
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        assert "left alone" in (await op.says("Ready", "NameTaken")).message
        await op.rests()
        assert await op.service() == before
        assert await op.slices() == []
        await op.client.delete(Service, "default", "backend")
        await op.publishes({ONE: True})


async def test_a_slice_of_somebody_else_under_a_name_of_ours_is_left_alone(op: Operator) -> None:
    theirs = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "backend-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "other"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["203.0.113.66"]}],
        "ports": [{"port": 80}],
    }
    await op.apply(theirs)
    before = await op.client.get(EndpointSlice, "default", "backend-1")
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        assert (await op.says("Ready", "Ready")).status == "True"
        assert await op.client.get(EndpointSlice, "default", "backend-1") == before


async def test_a_source_that_cannot_be_read_empties_nothing_also_not_for_the_next_leader(op: Operator) -> None:
    source = [{"dns": {"name": "db.example.com"}}]
    problem = Problem("LookupFailed", "db.example.com: SERVFAIL", "2027-01-01T00:00:00Z")
    async with op.running():
        await op.apply(xsvc("backend", endpoints=source))
        await op.rests()
        op.sources.say(KEY, Found("203-0-113-1", ONE), Found("203-0-113-2", TWO))
        await op.publishes({ONE: True, TWO: True})
        op.sources.say(KEY, Found("203-0-113-1", ONE), Found("203-0-113-2", TWO), problem=problem)
        assert "SERVFAIL" in (await op.says("Resolved", "LookupFailed")).message
        assert await op.published() == {ONE: True, TWO: True}
    async with op.running():
        await op.rests()
        op.sources.say(KEY, silent=True, problem=problem)
        await op.rests()
        assert await op.published() == {ONE: True, TWO: True}
        op.sources.say(KEY)
        await op.says("Ready", "NoEndpoints")
        assert await op.published() == {}


async def test_an_endpoint_whose_address_changes_is_checked_before_it_is_used(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", f"one={ONE}", f"two={TWO}"))
        await op.publishes({ONE: True, TWO: True})
        op.down.add(THREE)
        await op.apply(xsvc("backend", f"one={THREE}", f"two={TWO}"))
        await op.publishes({THREE: False, TWO: True})


async def test_sources_are_told_which_endpoints_fail_and_which_the_gate_refuses(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", f"one={ONE}", f"two={TWO}", "inside=127.0.0.1"))
        await op.publishes({ONE: True, TWO: True})
        assert op.sources.failed[KEY] == {"inside": "127.0.0.1"}
        op.down.add(ONE)
        op.prober.check(times=2)
        await op.publishes({ONE: False, TWO: True})
        assert op.sources.failed[KEY] == {"inside": "127.0.0.1", "one": ONE}
        op.down.clear()
        op.prober.check()
        await op.publishes({ONE: True, TWO: True})
        assert op.sources.failed[KEY] == {"inside": "127.0.0.1"}


async def test_a_new_leader_starts_from_the_verdicts_of_the_last(op: Operator) -> None:
    async with op.running():
        op.down.add(ONE)
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: False, TWO: True})
        before = (await op.endpoints())["203-0-113-1"]
        await op.rests()
    async with op.running():
        await op.rests()
        assert (await op.endpoints())["203-0-113-1"] == before
        assert op.writes() == {}


async def test_a_check_whose_certificates_are_missing_is_said_and_changes_no_verdict(op: Operator) -> None:
    check = {"http": {"tls": {"caSecretRef": {"name": "ca", "key": "ca.crt"}}}, "intervalSeconds": 2}
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        await op.apply(xsvc("backend", ONE, healthCheck=check))
        found = await op.says("Resolved", "SecretMissing")
        assert "spec.healthCheck: Secret default/ca does not exist; create it" in found.message
        assert await op.published() == {ONE: True}
        await op.secret("ca", **{"ca.crt": "no certificate"})
        assert "holds no certificates" in (await op.says("Resolved", "CertificatesNotReadable")).message
        await op.secret("ca", **{"ca.crt": credentials.issue().ca})
        await op.says("Resolved", "Resolved")
        assert op.prober.checked[KEY][1].http is not None


async def test_a_source_that_never_answers_holds_a_new_one_back_only_for_a_moment(op: Operator) -> None:
    silent = [{"addresses": [{"address": ONE}]}, {"dns": {"name": "db.example.com"}}]
    async with op.running():
        await op.apply(xsvc("backend", endpoints=silent))
        await op.says("Resolved", "Pending")
        await op.publishes({ONE: True})


async def test_a_check_that_is_taken_out_of_the_spec_ends(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        assert set(op.prober.checked) == {KEY}
        await op.client.patch(ExternalService, "default", "backend", {"spec": {"healthCheck": None}})
        await op.says("Healthy", "NotChecked")
        assert op.prober.checked == {}
