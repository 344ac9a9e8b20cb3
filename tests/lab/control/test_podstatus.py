from msgspec.structs import replace

from moorage.api.core_v1 import Container, ContainerPort, PodStatus
from moorage_lab.control.podstatus import (
    FAILURE_THRESHOLD,
    MAX_DELAY_SECONDS,
    ContainerState,
    pod_status,
    previous_restarts,
    restart_delay,
    tcp_port,
)
from tests.support.lab_objects import NOW, pod

LATER = "2026-01-02T03:05:00Z"


def report(state: ContainerState, before: object = (), now: str = NOW) -> dict[str, object]:
    assert isinstance(before, list | tuple)
    return pod_status([state], ["10.244.1.2", "fd00::2"], ["10.240.0.11"], before, NOW, now)


def container_status(status: dict[str, object]) -> dict[str, object]:
    assert isinstance(status["containerStatuses"], list)
    (only,) = status["containerStatuses"]
    assert isinstance(only, dict)
    return only


def ready_condition(status: dict[str, object]) -> dict[str, object]:
    assert isinstance(status["conditions"], list)
    (found,) = [condition for condition in status["conditions"] if condition["type"] == "Ready"]
    assert isinstance(found, dict)
    return found


def test_a_pod_is_pending_until_its_container_runs_and_ready_when_it_answers() -> None:
    state = ContainerState(container=Container(name="c", image="i"))
    status = report(state)
    assert status["phase"] == "Pending"
    assert status["podIPs"] == [{"ip": "10.244.1.2"}, {"ip": "fd00::2"}]
    assert container_status(status)["state"] == {"waiting": {"reason": "ContainerCreating"}}
    state.started(NOW)
    status = report(state)
    assert (status["phase"], ready_condition(status)["status"]) == ("Running", "False")
    state.probed(True)
    status = report(state)
    assert ready_condition(status)["status"] == "True"
    assert container_status(status)["ready"] is True


def test_a_container_that_died_waits_and_tells_how_it_ended() -> None:
    state = ContainerState(container=Container(name="c"), restarts=3)
    state.started(NOW)
    state.probed(True)
    state.exited(137, LATER)
    said = container_status(report(state))
    assert said["ready"] is False
    assert said["restartCount"] == 3
    waiting = said["state"]
    assert isinstance(waiting, dict)
    assert waiting["waiting"]["reason"] == "CrashLoopBackOff"
    assert said["lastState"] == {
        "terminated": {"exitCode": 137, "reason": "Error", "startedAt": NOW, "finishedAt": LATER}
    }
    assert ready_condition(report(state))["status"] == "False"


def test_a_ready_container_may_miss_probes_up_to_the_threshold() -> None:
    state = ContainerState(container=Container(name="c"))
    state.started(NOW)
    state.probed(True)
    for _ in range(FAILURE_THRESHOLD - 1):
        state.probed(False)
        assert state.ready
    state.probed(False)
    assert not state.ready
    state.probed(True)
    assert state.ready


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    state = ContainerState(container=Container(name="c"))
    first = report(state)
    second = report(state, first["conditions"], LATER)
    assert ready_condition(second)["lastTransitionTime"] == NOW
    state.started(LATER)
    state.probed(True)
    assert ready_condition(report(state, second["conditions"], LATER))["lastTransitionTime"] == LATER


def test_the_first_restart_is_at_once_and_later_ones_wait_longer_and_longer() -> None:
    assert [restart_delay(deaths) for deaths in range(1, 8)] == [0, 1, 2, 4, 8, 16, MAX_DELAY_SECONDS]
    assert restart_delay(10_000) == MAX_DELAY_SECONDS


def test_the_first_tcp_port_is_probed() -> None:
    udp, tcp = ContainerPort(container_port=53, protocol="UDP"), ContainerPort(container_port=80)
    assert tcp_port(Container(name="c", ports=[udp, tcp])) == 80
    assert tcp_port(Container(name="c", ports=[udp])) is None
    assert tcp_port(Container(name="c")) is None


def test_a_pod_that_ran_before_counts_that_as_a_restart() -> None:
    ran = replace(pod("a"), status=PodStatus(container_statuses=[{"name": "c", "restartCount": 4}]))
    assert previous_restarts(ran, "c") == 5
    assert previous_restarts(pod("a"), "c") == 0
