"""Whatever goes wrong with one object stays with it: its status says so, and all others are dealt with."""

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from moorage.api.core_v1 import Event, Service
from moorage.api.meta import Object
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.errors import ApiError
from moorage.core.decide import decide
from moorage.core.model import Decision
from moorage.core.snapshot import Snapshot
from testing.eventually import eventually
from tests.support.apiserver import kind
from tests.support.operators import KEY, Operator, operator, xsvc

ONE, TWO = "203.0.113.1", "203.0.113.2"


def spoil(op: Operator, of: str, name: str, **fields: Any) -> None:
    """Store an object with these fields in place of its own, as if an older schema had let them in."""
    obj = copy.deepcopy(op.server.store.get(kind(of), "default", name))
    assert obj is not None
    obj.update(fields)
    obj["metadata"]["generation"] = obj["metadata"].get("generation", 1) + 1
    op.server.store.put(kind(of), obj)


def stored(op: Operator, of: str, name: str) -> dict[str, Any]:
    obj = op.server.store.get(kind(of), "default", name)
    assert obj is not None
    return obj


def condition(obj: dict[str, Any], type: str) -> dict[str, Any]:
    found = [each for each in obj.get("status", {}).get("conditions", ()) if each["type"] == type]
    return found[0] if found else {}


async def told_of(op: Operator, reason: str) -> bool:
    """Whether there is an Event with this reason."""
    return reason in await op.events()


def metric(op: Operator, line: str) -> bool:
    return line in op.metrics.text().decode().splitlines()


# --- a bug ---------------------------------------------------------------------------------------------


async def test_a_decision_that_fails_is_told_and_what_there_is_stays(
    op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:

    def mistaken(snapshot: Snapshot) -> Decision:
        if snapshot.xsvc.metadata.name == "backend" and snapshot.xsvc.metadata.generation == 2:
            raise TypeError("secret words")
        return decide(snapshot)

    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        monkeypatch.setattr("moorage.operator.reconcile.decide", mistaken)
        await op.apply(xsvc("backend", TWO))
        found = await op.says("Accepted", "InternalError")
        assert (found.status, found.observed_generation) == ("False", 2)
        assert "secret" not in found.message
        ready = await op.condition("Ready")
        assert ready is not None
        assert (ready.status, ready.reason, ready.observed_generation) == ("True", "InternalError", 2)
        assert await op.published() == {ONE: True}
        await op.apply(xsvc("other", ONE))
        await op.publishes({ONE: True}, "other")
        assert not metric(op, "moorage_failed_decisions_total 0.0")
        await eventually(lambda: told_of(op, "InternalError"))
        await op.rests()
        before = op.server.store.version
        op.term.queue.add(KEY)
        await op.rests()
        assert op.server.store.version == before
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        await op.says("Ready", "Ready")


# --- what the API server does not take -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        ApiError(422, "Invalid", "status.endpoints[0].zone: Invalid value"),
        ApiError(413, "RequestEntityTooLarge", "limit is 3145728"),
        ApiError(500, "InternalError", "etcdserver: request is too large"),
    ],
)
async def test_a_status_that_is_refused_is_written_without_its_endpoints(
    op: Operator, monkeypatch: pytest.MonkeyPatch, refusal: ApiError
) -> None:
    patch = op.client.patch

    async def refuses(of: type[Object], namespace: str, name: str, body: Any, **how: Any) -> Any:
        if of is ExternalService and name == "backend" and body["status"].get("endpoints"):
            raise refusal
        return await patch(of, namespace, name, body, **how)

    async with op.running():
        monkeypatch.setattr(op.client, "patch", refuses)
        await op.apply(xsvc("backend", ONE))
        found = await op.says("Accepted", "WriteRefused")
        assert found.message == f"This status could not be written as a whole: {refusal.message}"
        stalled = await op.condition("Stalled")
        assert stalled is not None
        assert (stalled.reason, stalled.message) == ("WriteRefused", found.message)
        assert await op.published() == {ONE: True}
        assert (await op.xsvc()).status.endpoints is None
        await op.rests()
        monkeypatch.undo()
        op.term.queue.add(KEY)
        await op.says("Accepted", "Accepted")
        assert set(await op.endpoints()) == {"203-0-113-1"}


# --- what cannot be read -------------------------------------------------------------------------------------------


async def test_one_that_cannot_be_read_any_more_goes_on_as_it_was_and_says_so(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE, TWO))
        await op.publishes({ONE: True, TWO: True})
        spoil(op, "ExternalService", "backend", spec={"ports": "http", "endpoints": []})
        await eventually(lambda: told_of(op, "Unreadable"))
        assert metric(op, 'moorage_unreadable_objects{kind="ExternalService"} 1.0')
        op.down.add(ONE)
        op.prober.check(times=2)
        await op.publishes({ONE: False, TWO: True})
        await op.rests()
        [event] = [each for each in (await op.client.list(Event, "default")).items if each.reason == "Unreadable"]
        assert event.count == 1, "however often it is looked at"
        await op.apply(xsvc("backend", TWO))
        await op.publishes({TWO: True})
        await op.says("Accepted", "Accepted")
        assert metric(op, 'moorage_unreadable_objects{kind="ExternalService"} 0.0')


async def test_one_that_could_never_be_read_says_so_and_its_endpoints_stay(op: Operator) -> None:
    async with op.running():
        await op.apply(xsvc("backend", ONE))
        await op.publishes({ONE: True})
        await op.rests()
    spoil(op, "ExternalService", "backend", spec={"ports": [{"port": "http"}]})
    async with op.running():
        await eventually(lambda: told_of(op, "Unreadable"))
        await op.apply(xsvc("other", TWO))
        await op.publishes({TWO: True}, "other")
        await op.rests()
        assert await op.published() == {ONE: True}
        assert metric(op, 'moorage_sources{state="current"} 1.0'), "of the other one"


async def test_its_status_says_so_where_the_api_server_takes_it(
    op: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = op.client.raw

    async def takes(method: str, path: str, **how: Any) -> dict[str, Any]:
        """As Kubernetes since 1.30 (KEP-4008): a status is taken whatever the spec is like."""
        if not path.endswith("/externalservices/backend/status"):
            return await raw(method, path, **how)
        obj = copy.deepcopy(stored(op, "ExternalService", "backend"))
        obj["status"] = {**obj.get("status", {}), **how["body"]["status"]}
        return op.server.store.put(kind("ExternalService"), obj)

    await op.apply(xsvc("backend", ONE))
    spoil(op, "ExternalService", "backend", spec={"ports": [{"port": "http"}]})
    monkeypatch.setattr(op.client, "raw", takes)
    async with op.running():

        async def said() -> bool:
            return bool(condition(stored(op, "ExternalService", "backend"), "Accepted"))

        await eventually(said)
        obj = stored(op, "ExternalService", "backend")
        accepted, ready = condition(obj, "Accepted"), condition(obj, "Ready")
        assert (accepted["status"], accepted["reason"], accepted["observedGeneration"]) == ("False", "Unreadable", 2)
        assert accepted["message"].endswith("correct it: Expected `int`, got `str` - at `$.spec.ports[0].port`")
        assert (ready["status"], ready["reason"]) == ("Unknown", "Unreadable")
        await op.rests()
        op.term.queue.add(KEY)
        await op.rests()
        assert op.writes()["ExternalService status ok"] == 1


async def test_a_service_that_cannot_be_read_is_left_alone_and_it_is_said(op: Operator) -> None:
    meta = {"name": "backend", "namespace": "default"}
    await op.apply({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})
    spoil(op, "Service", "backend", spec={"ports": {"http": 80}})
    async with op.running():
        await op.apply(xsvc("backend", ONE), xsvc("other", TWO))
        await op.publishes({TWO: True}, "other")
        found = await op.says("Ready", "Unreadable")
        assert found.message.startswith("The Service of this name cannot be read")
        await op.client.delete(Service, "default", "backend")
        await op.publishes({ONE: True})
        await op.says("Ready", "Ready")


# --- all kinds of objects at once ----------------------------------------------------------------------------------

texts = st.sampled_from(
    ["", "a", "ü\u0000", "010.0.0.1", "::ffff:10.0.0.1", "fe80::1%e", "300.1.1.1", "1" * 300, "kubernetes", "backend",
     "10.0.0.0/33", "default", "None"]
)  # fmt: skip
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 70_000) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
READ = {
    "Service": ["spec.ports", "spec.clusterIP", "spec.clusterIPs", "spec.externalIPs", "spec.selector",
                "spec.ipFamilies", "status.loadBalancer", "status.loadBalancer.ingress", "metadata.labels"],
    "EndpointSlice": ["addressType", "endpoints", "ports", "metadata.labels"],
    "ExternalService": ["spec", "spec.ports", "spec.endpoints", "spec.healthCheck", "spec.drain", "spec.ipFamilies",
                        "status", "status.endpoints", "status.conditions", "metadata.labels"],
    "Secret": ["data", "data.ca", "type"],
    "Node": ["spec", "spec.podCIDR", "spec.podCIDRs", "status.addresses", "metadata.labels"],
    "Pod": ["spec.hostNetwork", "status.podIP", "status.podIPs", "status.phase", "metadata.labels"],
}  # fmt: skip
BASES: dict[str, dict[str, Any]] = {
    "EndpointSlice": {"addressType": "IPv4", "metadata": {"labels": {"kubernetes.io/service-name": "good"}}},
    "ExternalService": {"spec": {"ports": [{"port": 80}], "endpoints": [{"addresses": [{"address": ONE}]}]}},
}


@st.composite
def hostile(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    """A kind, and an object of it with anything in fields that are read."""
    of = draw(st.sampled_from(sorted(READ)))
    obj = copy.deepcopy(BASES.get(of, {}))
    for path in draw(st.lists(st.sampled_from(READ[of]), min_size=1, max_size=3)):
        *outer, last = path.split(".")
        inside = obj
        for name in outer:
            inside = inside[name] if isinstance(inside.get(name), dict) else inside.setdefault(name, {})
            if not isinstance(inside, dict):
                break
        else:
            inside[last] = draw(anything)
    return of, obj


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(hostile(), min_size=1, max_size=12), st.booleans())
async def test_good_ones_are_dealt_with_whatever_else_there_is(
    objects: list[tuple[str, dict[str, Any]]], at_start: bool
) -> None:
    def put(op: Operator) -> None:
        for number, (of, obj) in enumerate(objects):
            known = kind(of)
            namespace = "default" if known.namespaced else None
            meta = {**(obj.get("metadata") or {}), "name": f"bad-{number}", "uid": f"bad-{number}", "generation": 1}
            if namespace:
                meta["namespace"] = namespace
            op.server.store.put(
                known, {**copy.deepcopy(obj), "apiVersion": known.api_version, "kind": of, "metadata": meta}
            )

    async def published(op: Operator, *addresses: str) -> None:
        async def so() -> bool:
            ours = [each for each in op.server.store.list(kind("EndpointSlice")) if owner(each) == "good"]
            return {each["addresses"][0] for slice_ in ours for each in slice_["endpoints"]} == set(addresses)

        await eventually(so)

    with capture_logs():
        async with operator() as op:
            if at_start:
                put(op)
            async with op.running():
                await op.apply(xsvc("good", ONE))
                await published(op, ONE)
                put(op)
                await op.apply(xsvc("good", ONE, TWO))
                await published(op, ONE, TWO)


def owner(obj: dict[str, Any]) -> str:
    found = obj["metadata"].get("ownerReferences") or [{}]
    return str(found[0].get("name"))
