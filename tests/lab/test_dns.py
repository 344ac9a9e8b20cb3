"""Names in the lab's internet: an ExternalService that follows them, and pods that look them up."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.labs import ROOT, RunningLab, a_user, running_lab, until

MANIFESTS = ("-f", f"a={ROOT}/deploy/demo/k8s-backend.yml", "-f", f"b={ROOT}/deploy/demo/k8s-frontend.yml")
REQUEST = r"exec 3<>/dev/tcp/by-name/9000; printf 'GET / HTTP/1.0\r\n\r\n' >&3; tail -n 1 <&3"
XSVC = {
    "apiVersion": "moorage.dev/v1alpha1",
    "kind": "ExternalService",
    "metadata": {"name": "by-name", "namespace": "frontend"},
    "spec": {
        "ports": [{"port": 9000, "targetPort": 80}],
        "endpoints": [
            {"dns": {"name": "backend.example.com"}},
            {"dns": {"name": "_backend._tcp.example.com", "type": "SRV"}},
        ],
        "healthCheck": {"http": {}, "intervalSeconds": 1},
    },
}


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with a_user() as user, running_lab(user, *MANIFESTS) as lab:
        user.ok("lab", "apply", "--name", lab.name, "--cluster", "b", "-f", "-", input=json.dumps(XSVC))
        yield lab


def dns(lab: RunningLab, verb: str, *words: str) -> str:
    return lab.user.ok("lab", "dns", verb, "--name", lab.name, *words)


def objects(lab: RunningLab, cluster: str, namespace: str, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(
        lab.ok("get", "--cluster", cluster, "-n", namespace, kind, "-o", "json")
    )["items"]
    return found


def backends(lab: RunningLab) -> list[str]:
    """The addresses of cluster A's two load balancers."""
    return [each["status"]["loadBalancer"]["ingress"][0]["ip"] for each in objects(lab, "a", "backend", "svc")]


def ready(lab: RunningLab) -> list[str]:
    [xsvc] = objects(lab, "b", "frontend", "xsvc")
    return sorted(each["address"] for each in xsvc.get("status", {}).get("endpoints", ()) if each["ready"])


def test_an_external_service_follows_names_that_a_person_adds_and_changes(lab: RunningLab) -> None:
    first, second = backends(lab)
    assert dns(lab, "list") == "no names\n"
    dns(lab, "set", "backend.example.com", first)
    until(lambda: ready(lab) == [first], "the address of the name")
    dns(lab, "set", "backend.example.com", second)
    until(lambda: ready(lab) == [second], "the other address")
    printed = dns(lab, "set", "_backend._tcp.example.com", "0 1 80 backend1.example.com")
    assert printed.split()[-4:] == ["0", "1", "80", "backend1.example.com."]
    dns(lab, "set", "backend1.example.com", first)
    until(lambda: ready(lab) == sorted([first, second]), "the target of the SRV record")
    answer = lab.ok("exec", "--cluster", "b", "deployment/frontend", "--", "bash", "-c", REQUEST)
    assert answer.startswith("backend[backend")
    dns(lab, "remove", "backend.example.com")
    until(lambda: ready(lab) == [first], "the end of the name that was removed")


def test_pods_and_nodes_look_the_names_up_and_their_own_as_before(lab: RunningLab) -> None:
    dns(lab, "set", "pod.example.com", "203.0.113.9", "2001:db8::9")
    for place in ("deployment/frontend", "node-1", "gateway"):
        found = lab.ok("exec", "--cluster", "b", place, "--", "getent", "ahostsv4", "pod.example.com")
        assert found.split()[0] == "203.0.113.9"
    assert lab.ok("exec", "internet", "--", "getent", "ahostsv4", "pod.example.com").split()[0] == "203.0.113.9"
    own = lab.ok("exec", "--cluster", "b", "deployment/frontend", "--", "getent", "ahostsv4", "backend.frontend")
    assert own.startswith("10.96.")
    unknown = lab.run("exec", "--cluster", "b", "deployment/frontend", "--", "getent", "hosts", "nobody.example.com")
    assert unknown.returncode == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("remove", "nobody.example.com"), "nobody.example.com: has no records; "),
        (("set", "db.example.com", "nonsense"), "'nonsense': neither an address nor an SRV record"),
    ],
)
def test_what_cannot_be_done_is_one_line(lab: RunningLab, words: tuple[str, ...], said: str) -> None:
    before = dns(lab, "list")
    verb, *rest = words
    done = lab.user.run("lab", "dns", verb, "--name", lab.name, *rest)
    assert done.returncode == 1
    assert done.stderr.startswith(f"moorage: {said}")
    assert dns(lab, "list") == before
