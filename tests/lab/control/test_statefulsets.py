from collections.abc import Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.apps_v1 import StatefulSet, StatefulSetOrdinals, StatefulSetStatus
from moorage.api.core_v1 import Pod, PodStatus
from moorage_lab.control.deployments import is_ready, owned
from moorage_lab.control.statefulsets import INDEX_LABEL, NAME_LABEL, REVISION_LABEL, plan
from tests.support.lab_objects import NOW, deployment, stateful_set


def names(pods: Sequence[Pod]) -> list[str]:
    return [pod.metadata.name for pod in pods]


def made(name: str, *, ready: bool = True, image: str = "one") -> Pod:
    """The pod `web-N` as the controller makes it."""
    number = int(name.rpartition("-")[2])
    spec = replace(stateful_set(1, image).spec, ordinals=StatefulSetOrdinals(start=number))
    [pod] = plan(replace(stateful_set(), spec=spec), []).create
    conditions: list[dict[str, object]] = [{"type": "Ready", "status": str(ready)}]
    return replace(pod, status=PodStatus(phase="Running", conditions=conditions))


def leaving(pod: Pod) -> Pod:
    return replace(pod, metadata=replace(pod.metadata, deletion_timestamp=NOW))


def test_a_pod_has_the_name_of_its_ordinal_and_is_known_by_it() -> None:
    web = stateful_set(1)
    [pod] = plan(web, []).create
    assert pod.metadata.name == "web-0"
    assert pod.metadata.namespace == "ns"
    labels = pod.metadata.labels or {}
    assert (labels["app"], labels[NAME_LABEL], labels[INDEX_LABEL]) == ("web", "web-0", "0")
    assert labels[REVISION_LABEL] == plan(web, []).status["updateRevision"]
    assert (pod.spec.hostname, pod.spec.subdomain) == ("web-0", "web")
    assert owned(web, [pod]) == [pod]
    assert owned(deployment(name="other"), [pod]) == []


def test_pods_are_made_one_after_the_other_when_the_one_before_is_ready() -> None:
    web = stateful_set(3)
    assert names(plan(web, []).create) == ["web-0"]
    assert plan(web, [made("web-0", ready=False)]).create == []
    assert names(plan(web, [made("web-0")]).create) == ["web-1"]
    assert plan(web, [made(f"web-{number}") for number in range(3)])[:2] == ([], [])


def test_pods_are_made_and_deleted_at_once_with_parallel() -> None:
    assert names(plan(stateful_set(3, policy="Parallel"), [made("web-1", ready=False)]).create) == ["web-0", "web-2"]
    pods = [made(f"web-{number}", ready=False) for number in range(3)]
    assert names(plan(stateful_set(1, policy="Parallel"), pods).delete) == ["web-2", "web-1"]


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_a_pod_is_made_again_under_its_name_when_the_one_before_it_is_gone(policy: str) -> None:
    web = stateful_set(2, policy=policy)
    assert plan(web, [leaving(made("web-0")), made("web-1")])[:2] == ([], [])
    assert names(plan(web, [made("web-1")]).create) == ["web-0"]


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_a_pod_that_has_finished_is_deleted_so_that_it_is_made_again(policy: str, phase: str) -> None:
    finished = replace(made("web-0"), status=PodStatus(phase=phase))
    assert plan(stateful_set(1, policy=policy), [finished]).delete == [finished]
    assert plan(stateful_set(1, policy=policy), [leaving(finished)])[:2] == ([], [])


def test_scaling_down_takes_the_highest_ordinal_first_and_waits_until_it_is_gone() -> None:
    pods = [made(f"web-{number}") for number in (10, 0, 2, 1)]
    assert names(plan(stateful_set(1), pods).delete) == ["web-10"]
    assert plan(stateful_set(1), [leaving(pods[0]), *pods[1:]]).delete == []
    assert names(plan(stateful_set(1), pods[1:]).delete) == ["web-2"]


def test_scaling_down_waits_for_a_pod_that_stays_to_be_ready() -> None:
    assert plan(stateful_set(1), [made("web-0", ready=False), made("web-1")])[:2] == ([], [])


def test_ordinals_begin_where_the_spec_says() -> None:
    web = stateful_set(1)
    web = replace(web, spec=replace(web.spec, ordinals=StatefulSetOrdinals(start=5)))
    assert names(plan(web, [made("web-4")]).create) == ["web-5"]
    assert names(plan(web, [made("web-4"), made("web-5")]).delete) == ["web-4"]


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_an_update_begins_with_the_highest_ordinal_and_waits_for_each_pod(policy: str) -> None:
    web = stateful_set(2, "two", policy)
    old = [made("web-0"), made("web-1")]
    assert names(plan(web, old).delete) == ["web-1"]
    assert plan(web, [old[0], leaving(old[1])])[:2] == ([], [])
    assert names(plan(web, old[:1]).create) == ["web-1"]
    assert plan(web, [old[0], made("web-1", ready=False, image="two")])[:2] == ([], [])
    assert names(plan(web, [old[0], made("web-1", image="two")]).delete) == ["web-0"]


def test_with_on_delete_an_update_waits_for_a_person() -> None:
    web = stateful_set(1, "two")
    web = replace(web, spec=replace(web.spec, update_strategy={"type": "OnDelete"}))
    assert plan(web, [made("web-0")])[:2] == ([], [])


def test_pods_with_other_names_are_left_alone() -> None:
    pod = made("web-0")
    others = [replace(pod, metadata=replace(pod.metadata, name=name)) for name in ("web-x", "web", "other-1")]
    assert plan(stateful_set(1), [pod, *others])[:2] == ([], [])


def test_the_status_has_an_update_s_both_revisions_until_it_is_complete() -> None:
    new = stateful_set(2)
    first = plan(new, []).status
    assert first["currentRevision"] == first["updateRevision"]
    assert (first["replicas"], first["readyReplicas"], first["observedGeneration"]) == (0, None, 1)

    def after(web: StatefulSet, *pods: Pod) -> dict[str, object]:
        status = StatefulSetStatus(current_revision=str(first["currentRevision"]))
        return plan(replace(web, status=status), pods).status

    half = after(stateful_set(2, "two"), made("web-0"), made("web-1", image="two"))
    assert half["currentRevision"] == first["currentRevision"] != half["updateRevision"]
    assert (half["replicas"], half["readyReplicas"], half["currentReplicas"], half["updatedReplicas"]) == (2, 2, 1, 1)
    whole = after(stateful_set(2, "two"), made("web-0", image="two"), made("web-1", image="two"))
    assert whole["currentRevision"] == whole["updateRevision"] == half["updateRevision"]
    assert (whole["currentReplicas"], whole["updatedReplicas"]) == (2, 2)


@settings(max_examples=50)
@given(
    replicas=st.integers(0, 6),
    before=st.integers(0, 6),
    policy=st.sampled_from(["OrderedReady", "Parallel"]),
    randomness=st.randoms(use_true_random=False),
)
def test_a_rollout_ends_with_exactly_its_pods_and_never_has_two_of_one_name(
    replicas: int, before: int, policy: str, randomness: Random
) -> None:
    pods = {f"web-{number}": made(f"web-{number}") for number in range(before)}
    web = stateful_set(replicas, "two", policy)
    for _ in range(200):
        step = plan(web, list(pods.values()))
        for pod in step.create:
            assert pod.metadata.name not in pods
            pods[pod.metadata.name] = replace(pod, status=PodStatus(phase="Running", conditions=[]))
        for pod in step.delete:
            pods[pod.metadata.name] = leaving(pod)
        unsettled = [name for name, pod in pods.items() if pod.metadata.deletion_timestamp or not is_ready(pod)]
        if not unsettled:
            break
        for name in randomness.sample(unsettled, randomness.randint(1, len(unsettled))):
            pod = pods.pop(name)
            if not pod.metadata.deletion_timestamp:
                pods[name] = replace(pod, status=PodStatus(conditions=[{"type": "Ready", "status": "True"}]))
    assert sorted(pods) == [f"web-{number}" for number in range(replicas)]
    assert plan(web, list(pods.values())).status["updatedReplicas"] == (replicas or None)
