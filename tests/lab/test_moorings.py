"""Pods that are moored, in a lab: real pods, the operator, real agents, the real kernel."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.labs import DEMO, RunningLab, a_user, running_lab, until

pytestmark = pytest.mark.timeout(300)

FRONTENDS = 3
BACKENDS = {"one": "203.0.113.1", "two": "203.0.113.2"}
"""Name of an endpoint -> the address of the load balancer of backend1 or backend2."""
ANSWERS = {"one": "backend1", "two": "backend2"}
XSVC: dict[str, Any] = {
    "apiVersion": "moorage.dev/v1alpha1",
    "kind": "ExternalService",
    "metadata": {"name": "moored", "namespace": "frontend"},
    "spec": {
        "ports": [{"port": 9000, "targetPort": 80}],
        "endpoints": [{"addresses": [{"name": name, "address": each} for name, each in BACKENDS.items()]}],
        "proxy": "moorage",
        "sessionAffinity": "Mooring",
        "sessionAffinityConfig": {
            "mooring": {"client": "Pod", "podSelector": {"matchLabels": {"app": "frontend"}}, "whilePending": "Hash"}
        },
    },
}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """With an ExternalService whose clients are the frontends."""
    with a_user() as user, running_lab(user, *DEMO) as lab:
        lab.ok("scale", "--cluster", "b", "-n", "frontend", "deployment/frontend", "--replicas", str(FRONTENDS))
        apply(lab, XSVC)
        until(lambda: len(moorings(lab)) == FRONTENDS == len(running(lab)), f"{FRONTENDS} moored frontends", 60)
        yield lab


def apply(lab: RunningLab, *objects: dict[str, Any]) -> None:
    listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    lab.user.ok("lab", "apply", "--name", lab.name, "--cluster", "b", "-f", "-", input=json.dumps(listed))


def get(lab: RunningLab, kind: str) -> dict[str, dict[str, Any]]:
    """By name."""
    found = json.loads(lab.ok("get", "--cluster", "b", "-n", "frontend", kind, "-o", "json"))["items"]
    return {each["metadata"]["name"]: each for each in found}


def running(lab: RunningLab) -> dict[str, str]:
    """Name -> node of the frontends that are ready."""
    return {
        name: pod["spec"]["nodeName"]
        for name, pod in get(lab, "pods").items()
        if any(each["ready"] for each in pod["status"].get("containerStatuses", ()))
    }


def moorings(lab: RunningLab) -> dict[str, str]:
    """Pod -> the endpoint that it is moored to."""
    found = get(lab, "moorings").values()
    return {each["spec"]["client"]["name"]: each["status"]["endpoint"] for each in found if each.get("status")}


def led(lab: RunningLab, pod: str) -> bool:
    """Whether the kernel of the pod's node has an element for it."""
    found = get(lab, "pods")[pod]
    table = lab.ok(
        "exec", "--cluster", "b", found["spec"]["nodeName"], "--", "nft", "list", "table", "inet", "moorage"
    )
    [listing] = re.findall(r"^\tmap moorings4 \{$(.*?)^\t\}", table, re.MULTILINE | re.DOTALL)
    return f"{found['status'].get('podIP', '-')} . " in listing


def reached(lab: RunningLab, pod: str) -> set[str]:
    """Which backends five new connections of the pod reach."""
    ask = "print(urllib.request.urlopen('http://moored:9000/', timeout=5).read().decode())"
    code = f"import urllib.request\nfor _ in range(5): {ask}"
    return set(re.findall(r"(backend\d)-", lab.ok("exec", "--cluster", "b", pod, "--", "python3", "-c", code)))


def test_each_pod_reaches_the_backend_that_it_is_moored_to(lab: RunningLab) -> None:
    at = moorings(lab)
    assert sorted(at.values()).count("one") in (1, 2), "they are spread"
    until(lambda: all(led(lab, pod) for pod in at), "an element of each")
    for pod, endpoint in at.items():
        assert reached(lab, pod) == {ANSWERS[endpoint]}
    found = next(each for each in get(lab, "xsvc")["moored"]["status"]["conditions"] if each["type"] == "Moored")
    assert (found["status"], found["reason"]) == ("True", "Moored")
    assert "carried by node agents" in found["message"]


def test_whoever_edits_a_mooring_moves_the_pod_and_no_other(lab: RunningLab) -> None:
    before = moorings(lab)
    pod, endpoint = next(iter(before.items()))
    other = next(each for each in BACKENDS if each != endpoint)
    name = next(name for name, each in get(lab, "moorings").items() if each["spec"]["client"]["name"] == pod)
    patch = json.dumps({"spec": {"endpoint": other}})
    lab.ok("patch", "--cluster", "b", "-n", "frontend", f"mooring/{name}", "-p", patch)
    until(lambda: reached(lab, pod) == {ANSWERS[other]}, f"{pod} at {other}")
    after = {**before, pod: other}
    assert moorings(lab) == after
    for each, there in after.items():
        assert reached(lab, each) == {ANSWERS[there]}


def test_a_pod_that_is_made_again_on_another_node_keeps_its_backend_without_the_operator(lab: RunningLab) -> None:
    """As a StatefulSet's: of the same name, with another address."""
    [model, *_] = (pod for name, pod in get(lab, "pods").items() if name.startswith("frontend-"))
    nodes = ("node-1", "node-2")

    def db(node: str) -> dict[str, Any]:
        metadata = {"name": "db-0", "namespace": "frontend", "labels": {"app": "frontend", "db": "yes"}}
        spec = {"nodeName": node, "containers": model["spec"]["containers"]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    apply(lab, db(nodes[0]))
    until(lambda: "db-0" in running(lab) and "db-0" in moorings(lab), "db-0")
    until(lambda: led(lab, "db-0"), "an element of db-0")
    endpoint = moorings(lab)["db-0"]
    assert reached(lab, "db-0") == {ANSWERS[endpoint]}
    operator = lab.find("b/operator")
    os.kill(operator, signal.SIGSTOP)
    try:
        lab.ok("delete", "--cluster", "b", "-n", "frontend", "pod/db-0")
        until(lambda: "db-0" not in get(lab, "pods"), "the end of db-0")
        apply(lab, db(nodes[1]))
        until(lambda: running(lab).get("db-0") == nodes[1], "db-0 again")
        assert reached(lab, "db-0") == {ANSWERS[endpoint]}
        assert led(lab, "db-0")
    finally:
        os.kill(operator, signal.SIGCONT)
    lab.ok("delete", "--cluster", "b", "-n", "frontend", "pod/db-0")
