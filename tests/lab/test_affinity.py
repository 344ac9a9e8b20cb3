"""Session affinity in a lab: real pods in two clusters, real agents, the real kernel."""

import json
import os
import re
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.labs import DEMO, ROOT, RunningLab, a_user, running_lab, until

FRONTENDS = 3
_TCP = "(?:tcp|6)"
"""nft 1.0 prints the number where the machine has no /etc/protocols."""
BACKENDS = {"203.0.113.1": "backend1", "203.0.113.2": "backend2"}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with a_user() as user, running_lab(user, *DEMO) as lab:
        lab.ok("scale", "--cluster", "b", "-n", "frontend", "deployment/frontend", "--replicas", str(FRONTENDS))
        until(lambda: len(pods(lab)) == FRONTENDS and all_answer(lab), f"{FRONTENDS} frontends", 60)
        yield lab


@pytest.fixture(autouse=True)
def _no_sessions(lab: RunningLab) -> None:
    """Every test starts without a client that is pinned."""
    edit(lab, affinity=False)


def pods(lab: RunningLab) -> dict[str, str]:
    """Name -> address of the frontends that are ready."""
    items = json.loads(lab.ok("get", "--cluster", "b", "-n", "frontend", "pods", "-o", "json"))["items"]
    ready = [
        pod for pod in items if all(each["ready"] for each in pod["status"].get("containerStatuses", [{"ready": 0}]))
    ]
    return {pod["metadata"]["name"]: pod["status"]["podIP"] for pod in ready}


def fetch(lab: RunningLab) -> tuple[str, str]:
    """One request from this machine: which frontend answered, and which backend answered it."""
    url = f"http://127.0.0.1:{lab.port('frontend-lb')}/"
    with urllib.request.urlopen(url, timeout=10) as response:
        found = re.fullmatch(r"frontend\[(\S+)\] -> backend\[(backend\d)-\S+\]\n", response.read().decode())
    assert found is not None
    return found[1], found[2]


def ask(lab: RunningLab, requests: int = 30) -> dict[str, set[str]]:
    """Frontend -> the backends that answered it, in so many requests in all."""
    seen: dict[str, set[str]] = {}
    for _ in range(requests):
        frontend, backend = fetch(lab)
        seen.setdefault(frontend, set()).add(backend)
    return seen


def all_answer(lab: RunningLab) -> bool:
    try:
        return len(ask(lab)) == FRONTENDS
    except OSError:
        return False


def edit(
    lab: RunningLab, *, affinity: bool = True, seconds: int = 10800, addresses: tuple[str, ...] = tuple(BACKENDS)
) -> None:
    """Edit the frontend's manifest and apply it, as a person does; return once the nodes have it."""
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(Path(ROOT, "deploy/demo/k8s-frontend.yml").read_text()))
    for document in documents:
        if document["kind"] == "EndpointSlice":
            document["endpoints"] = [{"addresses": [address]} for address in addresses]
        if document["metadata"]["name"] == "backend" and document["kind"] == "Service":
            document["spec"].pop("sessionAffinity")
            if affinity:
                document["spec"]["sessionAffinity"] = "ClientIP"
                document["spec"]["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": seconds}}
        if document["kind"] == "Deployment":
            document["spec"]["replicas"] = FRONTENDS
    lab.user.ok("lab", "apply", "--name", lab.name, "--cluster", "b", "-f", "-", input=yaml.safe_dump_all(documents))
    policy = f"clientip-{seconds}-" if affinity else "balanced-"

    def programmed() -> bool:
        return all(
            f"goto {policy}" in services(node)
            and targets(node) == set(addresses)
            and set(sessions(node).values()) <= (set(addresses) if affinity else set())
            for node in nodes(lab)
        )

    until(programmed, f"{policy} {addresses} on both nodes, and no session that leads elsewhere")


def kernel(lab: RunningLab, node: str) -> dict[str, str]:
    """What a node's kernel holds: name of a set or map -> its listing."""
    table = lab.ok("exec", "--cluster", "b", node, "--", "nft", "list", "table", "inet", "moorage")
    parts = re.split(r"^\t(?:set|map) (\S+) \{$", table, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def nodes(lab: RunningLab) -> list[dict[str, str]]:
    """What the kernels of both nodes hold."""
    return [kernel(lab, "node-1"), kernel(lab, "node-2")]


def services(node: dict[str, str]) -> str:
    """The verdict of the backend's Service."""
    return "".join(re.findall(r"\. 9000 : (goto \S+)", node["services4"]))


def targets(node: dict[str, str]) -> set[str]:
    """The backends that the Service's slots lead to."""
    return set(re.findall(r"\. 9000 \. \d+ : (\S+) \. 80\b", node["slots-tcp4"]))


def sessions(node: dict[str, str]) -> dict[str, str]:
    """The Service's clients that are pinned, each with its backend."""
    return dict(re.findall(rf"(\S+) \. \S+ \. {_TCP} \. 9000 .*? : (\S+) \. 80\b", node["sessions4"]))


def pinned(lab: RunningLab) -> list[str]:
    """The clients that are pinned to a backend, on both nodes."""
    return [client for node in nodes(lab) for client in sessions(node)]


def everyone(lab: RunningLab, *backends: str) -> dict[str, set[str]]:
    """What `ask` returns where every frontend was answered by these."""
    return {frontend: set(backends) for frontend in pods(lab)}


def test_each_of_several_clients_keeps_its_backend_over_a_hundred_connections(lab: RunningLab) -> None:
    edit(lab)
    seen = ask(lab, 100 * FRONTENDS)
    backends = {client: BACKENDS[target] for node in nodes(lab) for client, target in sessions(node).items()}
    assert seen == {frontend: {backends[address]} for frontend, address in pods(lab).items()}
    assert len(backends) == FRONTENDS


def test_without_affinity_each_client_is_balanced_over_all_backends(lab: RunningLab) -> None:
    seen = ask(lab, 40 * FRONTENDS)
    assert seen == everyone(lab, *BACKENDS.values())


def test_switching_takes_effect_for_the_next_connection(lab: RunningLab) -> None:
    edit(lab)
    assert all(len(backends) == 1 for backends in ask(lab).values())
    edit(lab, affinity=False)
    assert all(len(backends) == 2 for backends in ask(lab, 40 * FRONTENDS).values())
    edit(lab)
    assert all(len(backends) == 1 for backends in ask(lab).values())


def test_adding_an_endpoint_moves_no_active_client_and_removing_one_moves_its_own(lab: RunningLab) -> None:
    edit(lab, addresses=("203.0.113.1",))
    before = ask(lab)
    edit(lab)
    assert ask(lab) == before == everyone(lab, "backend1")
    edit(lab, addresses=("203.0.113.2",))
    assert ask(lab) == everyone(lab, "backend2")


def test_clients_that_stay_away_for_the_timeout_choose_anew(lab: RunningLab) -> None:
    edit(lab, seconds=4)
    met: dict[str, set[str]] = {}

    def both() -> bool:
        until(lambda: not pinned(lab), "the end of sessions")
        for frontend, backends in ask(lab).items():
            met.setdefault(frontend, set()).update(backends)
        return any(len(each) == len(BACKENDS) for each in met.values())

    until(both, "a client that chooses the one backend and then the other", 120)


def test_agents_that_are_killed_under_load_fail_no_connection_and_move_nobody(lab: RunningLab) -> None:
    edit(lab)
    before = ask(lab)
    seen: list[tuple[str, str]] = []
    failures: list[Exception] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            try:
                seen.append(fetch(lab))
            except (OSError, urllib.error.URLError, AssertionError) as error:
                failures.append(error)

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for node in ("node-1", "node-2", "gateway"):
            victims = agents(lab, node)
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            until(lambda victims=victims, node=node: agents(lab, node) - victims, f"another agent of {node}")  # type: ignore[misc]
            enough = len(seen) + 10
            until(lambda enough=enough: len(seen) >= enough or failures, "ten more requests")  # type: ignore[misc]
    finally:
        done.set()
        loading.join()
    assert failures == []
    assert {frontend: {backend for each, backend in seen if each == frontend} for frontend in before} == before


def agents(lab: RunningLab, node: str) -> set[int]:
    return {pid for pid in lab.pids() if name(pid).endswith(f"/agent-{node}")}


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
