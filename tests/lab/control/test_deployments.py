from itertools import count
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.apps_v1 import Deployment
from moorage.api.core_v1 import Pod, PodStatus
from moorage_lab.control.deployments import HASH_LABEL, Plan, is_ready, owned, plan
from moorage_lab.control.names import random_suffix
from tests.support.lab_objects import NOW, deployment

LATER = "2026-01-02T03:05:00Z"


def decide(deployment: Deployment, pods: list[Pod], now: str = NOW) -> Plan:
    return plan(deployment, pods, random_suffix(Random(len(pods))), now)


def running(pods: list[Pod], *, ready: bool = True) -> list[Pod]:
    conditions: list[dict[str, object]] = [{"type": "Ready", "status": str(ready)}]
    return [replace(pod, status=PodStatus(phase="Running", conditions=conditions)) for pod in pods]


def leaving(pod: Pod) -> Pod:
    return replace(pod, metadata=replace(pod.metadata, deletion_timestamp=NOW))


def test_a_new_deployment_gets_its_pods_named_and_owned() -> None:
    web = deployment(2)
    made = decide(web, []).create
    assert len({pod.metadata.name for pod in made}) == 2
    for pod in made:
        hash_ = (pod.metadata.labels or {})[HASH_LABEL]
        assert pod.metadata.name.startswith(f"web-{hash_}-")
        assert (pod.metadata.labels or {})["app"] == "web"
        assert pod.metadata.namespace == "ns"
    assert owned(web, made) == made
    assert owned(deployment(name="other"), made) == []


def test_scaling_down_takes_the_pods_that_are_not_ready_first() -> None:
    pods = decide(deployment(3), []).create
    pods = [*running(pods[:1]), *running(pods[1:2], ready=False), *running(pods[2:])]
    made = decide(deployment(2), pods)
    assert (made.create, made.delete) == ([], [pods[1]])


def test_scaling_to_zero_takes_all() -> None:
    pods = running(decide(deployment(2), []).create)
    assert {pod.metadata.name for pod in decide(deployment(0), pods).delete} == {pod.metadata.name for pod in pods}


def test_a_pod_that_is_being_deleted_is_replaced() -> None:
    pods = running(decide(deployment(2), []).create)
    made = decide(deployment(2), [leaving(pods[0]), pods[1]])
    assert (len(made.create), made.delete) == (1, [])


def test_a_rolling_update_makes_the_new_pod_first_and_takes_the_old_one_when_that_is_ready() -> None:
    old = running(decide(deployment(1), []).create)
    first = decide(deployment(1, "two"), old)
    assert (len(first.create), first.delete) == (1, [])
    waiting = decide(deployment(1, "two"), [*old, *first.create])
    assert (waiting.create, waiting.delete) == ([], [])
    done = decide(deployment(1, "two"), [*old, *running(first.create)])
    assert (done.create, done.delete) == ([], old)


@settings(max_examples=50)
@given(replicas=st.integers(0, 9), before=st.integers(0, 9), randomness=st.builds(Random, st.integers(0, 1 << 32)))
def test_a_rollout_ends_and_is_never_below_its_availability(replicas: int, before: int, randomness: Random) -> None:
    numbers = count()

    def suffix() -> str:
        return f"{next(numbers):05}"

    pods = running(plan(deployment(before), [], suffix, NOW).create)
    web = deployment(replicas, "two")
    enough = replicas - replicas // 4
    for _ in range(1000):
        made = plan(web, pods, suffix, NOW)
        if not made.create and not made.delete and all(map(is_ready, pods)):
            break
        gone = {pod.metadata.name for pod in made.delete}
        was = sum(map(is_ready, pods))
        pods = [pod for pod in pods if pod.metadata.name not in gone]
        assert sum(map(is_ready, pods)) >= min(was, enough)
        pods += made.create
        assert len(pods) <= max(before, replicas + -(-replicas // 4))
        waiting = [pod for pod in pods if not is_ready(pod)]
        for pod in waiting[: randomness.randint(0, len(waiting))]:
            pods[pods.index(pod)] = running([pod])[0]
    assert len(pods) == replicas
    assert plan(web, pods, suffix, NOW).status["updatedReplicas"] == (replicas or None)


@pytest.mark.parametrize(("ready", "reason"), [(True, "NewReplicaSetAvailable"), (False, "ReplicaSetUpdated")])
def test_status_says_how_far_the_rollout_is(ready: bool, reason: str) -> None:
    web = deployment(2)
    status = decide(web, running(decide(web, []).create, ready=ready)).status
    assert status["observedGeneration"] == 1
    assert status["replicas"] == status["updatedReplicas"] == 2
    assert status["readyReplicas"] == status["availableReplicas"] == (2 if ready else None)
    assert status["unavailableReplicas"] == (None if ready else 2)
    assert isinstance(status["conditions"], list)
    available, progressing = status["conditions"]
    assert (available["type"], available["status"]) == ("Available", str(ready))
    assert (progressing["type"], progressing["reason"]) == ("Progressing", reason)


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    web = deployment(1)
    pods = decide(web, []).create
    before = decide(web, pods).status["conditions"]
    assert isinstance(before, list)
    web = replace(web, status=replace(web.status, conditions=before))
    after = decide(web, running(pods), LATER).status["conditions"]
    assert isinstance(after, list)
    assert [condition["lastTransitionTime"] for condition in after] == [LATER, NOW]
