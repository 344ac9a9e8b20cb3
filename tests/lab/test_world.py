"""The lab's two clusters on the real kernel, with the demo's manifests, as a user meets them."""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.labs import DEMO, ROOT, RunningLab, User, a_user, running_lab, until

SMALL = ("--cluster", "a=1", "-f", f"{ROOT}/deploy/demo/k8s-backend.yml")


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with a_user() as user:
        yield user


@pytest.fixture(scope="module")
def lab(user: User) -> Iterator[RunningLab]:
    with running_lab(user, *DEMO) as lab:
        until(lambda: answers(lab.port("frontend-lb"), "frontend["), "an answer of a backend")
        yield lab


def fetch(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
        return str(response.read().decode())


def addresses(lab: RunningLab, cluster: str, namespace: str) -> list[str]:
    pods = json.loads(lab.ok("get", "--cluster", cluster, "-n", namespace, "pods", "-o", "json"))["items"]
    return [pod["status"]["podIP"] for pod in pods]


def connect(lab: RunningLab, place: str, host: str, port: int, cluster: str = "b") -> str:
    """From a node, gateway or pod: `connected`, or what went wrong."""
    code = (
        "import socket\n"
        f"try: socket.create_connection(({host!r}, {port}), 2); print('connected')\n"
        "except OSError as error: print(error)"
    )
    return lab.ok("exec", "--cluster", cluster, place, "--", "python3", "-c", code).strip()


def test_a_request_from_the_machine_goes_the_whole_way(lab: RunningLab) -> None:
    answers = {fetch(lab.port("frontend-lb")) for _ in range(20)}
    assert len(answers) == 1
    assert answers.pop().startswith("frontend[frontend-")


def test_the_other_cluster_sees_connections_come_from_the_gateways_public_address(lab: RunningLab) -> None:
    fetch(lab.port("frontend-lb"))
    flows = lab.ok("exec", "--cluster", "a", "gateway", "--", "conntrack", "-L", "-p", "tcp")
    assert "src=198.51.100.2 dst=203.0.113." in flows


def test_the_clusters_reach_each_other_only_through_public_addresses(lab: RunningLab) -> None:
    [frontend] = addresses(lab, "b", "frontend")
    assert connect(lab, "node-1", frontend, 8080, cluster="b") == "connected"
    assert connect(lab, "node-1", frontend, 8080, cluster="a") != "connected"
    assert connect(lab, "node-1", "203.0.113.1", 80, cluster="b") == "connected"
    assert connect(lab, "internet", frontend, 8080) != "connected"


def test_there_is_no_route_to_the_machine(lab: RunningLab) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        for address in ("127.0.0.1", *own_addresses()):
            for place in ("internet", "gateway", "node-1"):
                assert connect(lab, place, address, port) != "connected"
    for family in ("-4", "-6"):
        routes = lab.ok("exec", "internet", "--", "ip", family, "route").splitlines()
        assert not [route for route in routes if route.startswith("default")]


def own_addresses() -> list[str]:
    lines = subprocess.run(["ip", "-j", "-4", "addr"], capture_output=True, check=True).stdout
    return [address["local"] for link in json.loads(lines) for address in link["addr_info"]]


@pytest.mark.parametrize("name", ["backend", "backend.frontend", "backend.frontend.svc.cluster.local"])
def test_pods_find_services_by_name(lab: RunningLab, name: str) -> None:
    service = json.loads(lab.ok("get", "--cluster", "b", "-n", "frontend", "svc", "backend", "-o", "json"))
    found = lab.ok("exec", "deploy/frontend", "--", "getent", "ahostsv4", name)
    assert found.split()[0] == service["spec"]["clusterIP"]


def test_other_names_do_not_exist(lab: RunningLab) -> None:
    for name in ("example.com", "backend1-lb.backend.svc.cluster.local", "nowhere"):
        assert lab.run("exec", "deploy/frontend", "--", "getent", "ahosts", name).returncode == 2


def test_a_port_that_nobody_serves_is_refused_at_once(lab: RunningLab) -> None:
    assert "refused" in connect(lab, "deploy/frontend", "backend", 9001)
    assert "refused" in connect(lab, "internet", "203.0.113.1", 81)
    assert "No route" in connect(lab, "internet", "203.0.113.9", 80)


def test_a_cluster_reaches_its_own_load_balancer(lab: RunningLab) -> None:
    assert connect(lab, "deploy/backend1", "203.0.113.1", 80, cluster="a") == "connected"
    assert connect(lab, "deploy/backend1", "203.0.113.2", 80, cluster="a") == "connected"


def test_exec_runs_in_the_pod_with_its_name_and_environment_and_keeps_the_exit_status(lab: RunningLab) -> None:
    out = lab.ok("exec", "deployment/frontend", "--", "sh", "-c", "hostname; echo $BACKEND_HOST:$BACKEND_PORT")
    name, backend = out.split()
    assert name.startswith("frontend-")
    assert backend == "backend:9000"
    assert lab.run("exec", name, "--", "sh", "-c", "exit 7").returncode == 7


def test_sessions_are_listed_on_a_node_with_the_names_of_services(lab: RunningLab) -> None:
    frontend, node = (
        lab.ok("get", "--cluster", "b", "-n", "frontend", "pods", "-o", "wide").splitlines()[1].split()[5:7]
    )
    assert "connected" in connect(lab, "deploy/frontend", "backend", 9000, cluster="b")
    lines = lab.ok("exec", "--cluster", "b", node, "--", "moorage", "sessions").splitlines()
    assert lines[0].split("  ")[0] == "CLIENT"
    client, service, address, endpoint, left = next(line for line in lines if line.startswith(frontend)).split()
    assert (client, service) == (frontend, "frontend/backend")
    assert address.endswith(":9000/tcp")
    assert endpoint in ("203.0.113.1:80", "203.0.113.2:80")
    assert 0 < int(left) <= 10800


def test_a_person_changes_an_object_in_an_editor(lab: RunningLab) -> None:
    where = ("--cluster", "a", "-n", "backend", "svc/backend1-lb")
    lab.user.environ["EDITOR"] = "sed -i 's/^  name: backend1-lb$/&\\n  annotations: {team: blue}/'"
    assert lab.ok("edit", *where) == "service/backend1-lb edited\n"
    patch = '{"metadata": {"annotations": {"team": "red"}}}'
    assert lab.ok("patch", *where, "-p", patch) == "service/backend1-lb patched\n"
    assert "team: red" in lab.ok("get", *where, "-o", "yaml")
    lab.user.environ["EDITOR"] = "true"
    assert lab.ok("edit", *where) == "Edit cancelled, no changes made.\n"


def test_what_cannot_be_found_is_said_in_one_line(lab: RunningLab) -> None:
    for words, message in (
        (("exec", "nothing", "--", "true"), "nothing: no such pod or node"),
        (
            ("exec", "node-1", "--", "true"),
            "node-1: a-node-1 and b-node-1 could be meant; say which one with --cluster",
        ),
        (("get", "pods"), "lab world: say which cluster with --cluster: a, b"),
        (("get", "--cluster", "z", "pods"), "lab world: has no cluster 'z'"),
        (("logs", "deploy/frontend", "-c", "other"), "has no container 'other'; it has: frontend"),
    ):
        done = lab.run(*words)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_objects_are_scaled_applied_and_deleted_and_relays_follow(lab: RunningLab) -> None:
    manifest = lab.user.runtime / "extra.yml"
    manifest.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: extra, namespace: backend}\n"
        "spec: {type: LoadBalancer, selector: {app: backend}, ports: [{port: 8000, targetPort: 9000}]}\n"
    )
    assert "service/extra" in lab.ok("apply", "--cluster", "a", "-f", str(manifest))
    until(lambda: any(relay.service == "extra" for relay in lab.state().relays), "a relay")
    port = lab.port("extra")
    until(lambda: answers(port), "an answer")
    assert "deleted" in lab.ok("delete", "--cluster", "a", "-n", "backend", "svc", "extra")
    until(lambda: not any(relay.service == "extra" for relay in lab.state().relays), "the relay's end")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 2)
    assert "scaled" in lab.ok("scale", "--cluster", "b", "-n", "frontend", "deploy/frontend", "--replicas", "3")
    until(lambda: len(set(addresses_or_none(lab))) == 3, "three pods")


def addresses_or_none(lab: RunningLab) -> list[str]:
    try:
        return addresses(lab, "b", "frontend")
    except KeyError:
        return []


def answers(port: int, start: str = "backend[") -> bool:
    try:
        return fetch(port).startswith(start)
    except OSError:
        return False


def test_a_load_balancer_has_an_ipv6_address_too_where_it_is_asked_for(lab: RunningLab) -> None:
    manifest = lab.user.runtime / "dual.yml"
    manifest.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: dual, namespace: backend}\n"
        "spec: {type: LoadBalancer, ipFamilyPolicy: RequireDualStack, selector: {app: backend},"
        " ports: [{port: 80, targetPort: 9000}]}\n"
    )
    lab.ok("apply", "--cluster", "a", "-f", str(manifest))

    def ingress() -> list[str]:
        service = json.loads(lab.ok("get", "--cluster", "a", "-n", "backend", "svc", "dual", "-o", "json"))
        return [entry["ip"] for entry in service.get("status", {}).get("loadBalancer", {}).get("ingress", [])]

    until(lambda: len(ingress()) == 2, "two addresses")
    four, six = sorted(ingress(), key=lambda address: ":" in address)
    assert ":" in six
    for place in ("deploy/frontend", "node-2", "internet"):
        until(lambda place=place: connect(lab, place, six, 80) == "connected", f"{place} to {six}")  # type: ignore[misc]
        assert connect(lab, place, four, 80) == "connected"
    lab.ok("delete", "--cluster", "a", "-f", str(manifest))


def test_two_labs_run_at_once(lab: RunningLab) -> None:
    with running_lab(lab.user, *SMALL, name="second") as second:
        assert second.port("backend1-lb") != lab.port("backend1-lb")
        until(lambda: answers(second.port("backend1-lb")), "an answer in the second lab")
        assert fetch(lab.port("frontend-lb")).startswith("frontend[")
        listed = lab.user.ok("lab", "list")
        assert "world " in listed
        assert "second " in listed
        ambiguous = lab.user.run("lab", "get", "nodes")
        assert ambiguous.stderr == "moorage: several labs are running (second, world); say which one with --name\n"
    second.expect_nothing_left()
    assert fetch(lab.port("frontend-lb")).startswith("frontend[")
