"""The agent and moorings: what stays, and who pays, while something fails."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.dataplane.model import (
    MooringKey,
)
from moorage.node import moorings as moorings_module
from moorage.node import wanted
from moorage.node.moorings import Led
from testing.eventually import eventually
from tests.support.moored_agent import (
    ADDRESSES,
    E1,
    E2,
    E3,
    HTTP,
    A,
    B,
    Fixture,
    moored_agent,
    mooring,
    pod,
    service,
    slice_,
)


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    async with moored_agent() as made:
        yield made


async def test_a_mooring_that_cannot_be_read_costs_its_own_client_and_its_last_good_state_stays(
    fixture: Fixture,
) -> None:
    fixture.store(pod("a", A), pod("b", B), pod("c", ADDRESSES["c"]), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E1, b=E2)
        bad = mooring("a", "e3")
        bad["spec"]["endpoint"] = 5
        never = mooring("c", "e3")
        never["spec"] = "nonsense"
        fixture.store(bad, never, mooring("b", "e3"))
        await fixture.leads(a=E1, b=E3)
        first, second = agent.warnings
        assert first.startswith("Mooring frontend/backend.a: Expected")
        assert first.endswith("its last good state stays in use")
        assert second.endswith("nothing of it is carried")
        fixture.store(mooring("a", "e2"), mooring("c", "e1"))
        await fixture.leads(a=E2, b=E3, c=E1)
        assert agent.warnings == []


async def test_a_pod_that_cannot_be_read_costs_itself(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent() as agent:
        await fixture.leads(a=E1, b=E2)
        bad = pod("a", A)
        bad["status"]["podIPs"] = "nonsense"
        fixture.store(bad, mooring("b", "e3"))
        await fixture.leads(a=E1, b=E3)
        [warning] = agent.warnings
        assert warning.startswith("Pod frontend/a: Expected")


async def test_a_mistake_over_the_pods_of_a_namespace_costs_that_namespace_alone(
    fixture: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = moorings_module.led

    def mistaken(namespace: str, *rest: Any) -> Led:
        if namespace == "frontend":
            raise KeyError("nobody thought of this")
        return right(namespace, *rest)

    fixture.store(pod("a", A), mooring("a", "e1"))
    other = service(name="other", namespace="elsewhere", clusterIPs=["10.96.0.2"])
    async with fixture.agent() as agent:
        await fixture.leads(a=E1)
        monkeypatch.setattr(wanted, "led", mistaken)
        elsewhere = mooring("b", "e2")
        elsewhere["metadata"] = {**elsewhere["metadata"], "namespace": "elsewhere"}
        fixture.store(mooring("a", "e2"), other, slice_("e2", name="other", namespace="elsewhere"))
        fixture.store(pod("b", B, namespace="elsewhere"), elsewhere)

        async def led() -> bool:
            return MooringKey(B, HTTP._replace(address="10.96.0.2")) in fixture.kernel.state

        await eventually(led)

        async def told() -> bool:
            return any("Pods of frontend: KeyError, a bug in Moorage" in each for each in agent.warnings)

        await eventually(told)
        assert fixture.led() == {A: E1}
        monkeypatch.undo()
        fixture.store(mooring("a", "e3"))
        await fixture.leads(a=E3)
        assert agent.warnings == []


async def test_moorings_stay_while_the_api_is_away_and_catch_up_after(fixture: Fixture) -> None:
    fixture.store(pod("a", A), pod("b", B), mooring("a", "e1"), mooring("b", "e2"))
    async with fixture.agent():
        await fixture.leads(a=E1, b=E2)
        held = fixture.server.faults.hold(20)
        fixture.server.faults.drop_watches()
        fixture.server.store.compact()
        async with asyncio.timeout(20):
            await held.arrived.wait()
        fixture.remove(pod("b"))
        fixture.store(mooring("a", "e3"), pod("c", B), mooring("c", "e1"))
        assert fixture.led() == {A: E1, B: E2}
        held.release()
        fixture.server.faults.clear()
        await fixture.leads(a=E3, b=E1)


async def test_a_pod_that_a_stateful_set_makes_again_on_this_node_keeps_its_endpoint_without_the_operator(
    fixture: Fixture,
) -> None:
    fixture.store(pod("db-0", "10.244.2.10", node="node-2"), mooring("db-0", "e2"))
    async with fixture.agent():
        await fixture.uses(E1, E2, E3)
        fixture.remove(pod("db-0"))
        fixture.store(pod("db-0", phase="Pending"))
        await fixture.seen()
        fixture.store(pod("db-0", A))
        await fixture.leads(a=E2)


async def test_a_pod_that_comes_is_led_though_the_watch_of_moorings_is_silent(fixture: Fixture) -> None:
    """Its Mooring is got by its name."""
    silent = asyncio.Event()
    watch = fixture.client.watch

    async def deaf(kind: type[Any], *rest: Any, **how: Any) -> AsyncGenerator[Any, None]:
        async with aclosing(watch(kind, *rest, **how)) as events:
            async for event in events:
                if kind is not Mooring or not silent.is_set():
                    yield event

    fixture.client.watch = deaf  # type: ignore[method-assign]
    fixture.store(pod("a", A), mooring("a", "e1"))
    async with fixture.agent():
        await fixture.leads(a=E1)
        silent.set()
        fixture.store(mooring("b", "e2"), pod("b", B))
        await fixture.leads(a=E1, b=E2)
