"""A pod's status as the kubelet reports it, and when to start a dead container again."""

from collections.abc import Sequence

import msgspec

from moorage.api.core_v1 import Container, Pod
from moorage_lab.control.deployments import with_times

MIN_DELAY_SECONDS = 1.0
MAX_DELAY_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""How long a container must run until its back-off starts from the beginning."""
FAILURE_THRESHOLD = 3
"""How many probes in a row must fail until a ready container is no longer ready; Kubernetes' default."""


class ContainerState(msgspec.Struct):
    """What the kubelet has seen of one container. Times are RFC 3339."""

    container: Container
    restarts: int = 0
    started_at: str | None = None
    """None while it is not running."""
    waiting: tuple[str, str] | None = ("ContainerCreating", "")
    """Reason and message while it is not running."""
    last: dict[str, object] | None = None
    """How it last ended: the `terminated` part of a container state."""
    ready: bool = False
    failed_probes: int = 0

    def started(self, now: str) -> None:
        self.started_at, self.waiting, self.failed_probes = now, None, 0

    def exited(self, exit_code: int, now: str) -> None:
        """`exit_code`: 128 + n for signal n."""
        self.last = {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "startedAt": self.started_at,
            "finishedAt": now,
        }
        self.started_at, self.ready = None, False
        self.waiting = ("CrashLoopBackOff", f"container {self.container.name} exited with status {exit_code}")

    def probed(self, answered: bool) -> None:
        """Ready after one answer, not ready after `FAILURE_THRESHOLD` failures in a row."""
        self.failed_probes = 0 if answered else self.failed_probes + 1
        if answered or self.failed_probes >= FAILURE_THRESHOLD:
            self.ready = answered and self.started_at is not None


def restart_delay(deaths: int) -> float:
    """Seconds until the next start after `deaths` in a row: 0, then 1, 2, 4 ... 30.

    Kubernetes starts at 10 s and ends at 300 s, which is too long for a lab.
    """
    return 0.0 if deaths <= 1 else min(MAX_DELAY_SECONDS, MIN_DELAY_SECONDS * 2.0 ** min(deaths - 2, 30))


def tcp_port(container: Container) -> int | None:
    """The port to probe: the container's first TCP port; None: it is ready while it runs."""
    return next((port.container_port for port in container.ports or () if port.protocol == "TCP"), None)


def previous_restarts(pod: Pod, container: str) -> int:
    """The restart count to continue from: one more than in the status, if the container has ever run."""
    for status in pod.status.container_statuses or ():
        if status.get("name") == container:
            count = status.get("restartCount")
            return (count if isinstance(count, int) else 0) + 1
    return 0


def pod_status(
    states: Sequence[ContainerState],
    addresses: Sequence[str],
    host_addresses: Sequence[str],
    before: Sequence[dict[str, object]],
    started_at: str,
    now: str,
) -> dict[str, object]:
    """The status for a merge patch; `before` are the conditions of the last one."""
    ready = bool(states) and all(state.ready for state in states)
    unready = [state.container.name for state in states if not state.ready]
    message = "" if ready else f"containers with unready status: [{' '.join(unready)}]"
    verdict: dict[str, object] = {"status": "True"}
    if not ready:
        verdict = {"status": "False", "reason": "ContainersNotReady", "message": message}
    conditions: list[dict[str, object]] = [
        {"type": "PodScheduled", "status": "True"},
        {"type": "Initialized", "status": "True"},
        {"type": "ContainersReady", **verdict},
        {"type": "Ready", **verdict},
    ]
    ran = all(state.started_at or state.last for state in states)
    return {
        "phase": "Running" if ran else "Pending",
        "podIP": addresses[0],
        "podIPs": [{"ip": address} for address in addresses],
        "hostIP": host_addresses[0],
        "hostIPs": [{"ip": address} for address in host_addresses],
        "startTime": started_at,
        "conditions": with_times(conditions, before, now),
        "containerStatuses": [_container_status(state) for state in states],
    }


def _container_status(state: ContainerState) -> dict[str, object]:
    now: dict[str, object]
    if state.started_at:
        now = {"running": {"startedAt": state.started_at}}
    else:
        reason, message = state.waiting or ("", "")
        now = {"waiting": {"reason": reason, "message": message} if message else {"reason": reason}}
    image = state.container.image or ""
    return {
        "name": state.container.name,
        "image": image,
        "imageID": image,
        "ready": state.ready,
        "started": state.started_at is not None,
        "restartCount": state.restarts,
        "state": now,
        "lastState": {"terminated": state.last} if state.last else {},
    }
