"""The harness: a killed run leaves nothing, existing clusters do, the cloud behaves as clouds do."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import runs
from e2e.harness.clusters import Clusters, existing
from e2e.harness.errors import HarnessError
from e2e.harness.played import PlayedClusters
from e2e.harness.world import wait

_ROOT = Path(__file__).parents[1]
_WITHOUT_MOORAGE = """
import signal
from e2e.harness import pause, played
with played.clusters(pause.archive) as both:
    both.a.kubectl("create", "deployment", "sleeper", "--image", pause.PAUSE)
    both.a.wait_for_deployment("default", "sleeper")
    print(both.world.run.name, both.world.pid, flush=True)
    signal.pause()
"""


def processes(namespace: int) -> list[int]:
    """The processes of a PID namespace, known by its inode."""
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if (process / "ns" / "pid").stat().st_ino == namespace:
                found.append(int(process.name))
    return found


def mounts(name: str) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if name in line]


@pytest.fixture
def run() -> Iterator[subprocess.Popen[str]]:
    """A run of its own, beside that of the other tests."""
    argv = [sys.executable, "-c", _WITHOUT_MOORAGE]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=_ROOT) as process:
        yield process
        process.kill()


def test_a_run_that_is_killed_leaves_nothing(run: subprocess.Popen[str]) -> None:
    assert run.stdout is not None
    name, first = run.stdout.readline().split()
    namespace = os.stat(f"/proc/{first}/ns/pid").st_ino
    assert len(processes(namespace)) > 15
    assert len(runs.cgroups(name)) > 3
    assert name not in runs.clean(), "a run that lives was taken for dead"
    assert mounts(name) == []

    run.send_signal(signal.SIGKILL)
    run.wait()
    wait("the end of its processes", lambda: processes(namespace) == [], 20)
    done = subprocess.run([sys.executable, "-m", "e2e.harness", "down"], cwd=_ROOT, capture_output=True, text=True)
    assert done.stdout == f"e2e: removed what {name} left\n", done.stderr
    assert runs.cgroups(name) == []
    assert list(runs.BASE.glob(f"*{name}*")) == []


def test_the_same_tests_run_against_existing_clusters(played: PlayedClusters) -> None:
    """These clusters, seen from the internet, as if they were somebody's."""
    argv = [sys.executable, "-m", "pytest", "e2e/test_seed.py", "-k", "always"]
    settings = {
        "E2E_KUBECONFIG_A": str(played.a.kubeconfig),
        "E2E_KUBECONFIG_B": str(played.b.kubeconfig),
        "E2E_IMAGE": "docker.io/library/moorage:latest",
    }
    done = subprocess.run(
        [*played.world.joining("internet"), *argv],
        env={**os.environ, **settings},
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


def test_what_existing_clusters_cannot_do_is_skipped_with_the_reason(tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text("clusters: [{cluster: {server: 'https://192.0.2.1'}}]")
    settings = {"E2E_KUBECONFIG_A": str(kubeconfig), "E2E_KUBECONFIG_B": str(kubeconfig), "E2E_IMAGE": "x"}
    argv = [sys.executable, "-m", "pytest", "-rs", "e2e/test_harness.py", "-k", "cut_off"]
    done = subprocess.run(argv, env={**os.environ, **settings}, cwd=_ROOT, capture_output=True, text=True)
    assert "1 skipped" in done.stdout
    assert "existing clusters: their cloud, network and names are not the test's to change" in done.stdout


@pytest.mark.parametrize("missing", ["E2E_KUBECONFIG_A", "E2E_KUBECONFIG_B", "E2E_IMAGE"])
def test_half_of_the_settings_for_existing_clusters_is_refused(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("E2E_KUBECONFIG_A", "E2E_KUBECONFIG_B", "E2E_IMAGE"):
        monkeypatch.setenv(name, "" if name == missing else "x")
    with pytest.raises(HarnessError, match=f"set {missing} too"):
        existing()


@pytest.fixture(scope="module")
def service(clusters: Clusters) -> Iterator[str]:
    """The namespace of a Service `web` of type LoadBalancer of A, whose one pod is a server of the demo's."""
    clusters.a.kubectl("create", "namespace", "harness")
    clusters.a.apply(clusters.named(_WEB))
    clusters.a.wait_for_deployment("harness", "web")
    yield "harness"
    clusters.a.delete_namespace("harness")


def test_a_load_balancer_gets_an_address_that_the_world_reaches(clusters: Clusters, service: str) -> None:
    address = clusters.a.load_balancer(service, "web")
    clusters.a.eventually("an answer", lambda: clusters.curl(f"http://{address}").startswith("backend[web-"))


def test_pods_of_b_reach_a_s_load_balancers_and_api_server(clusters: Clusters, service: str) -> None:
    address = clusters.a.load_balancer(service, "web")
    clusters.a.eventually("an answer", lambda: clusters.curl(f"http://{address}"))
    fetch = "import sys, urllib.request, ssl; print(urllib.request.urlopen(sys.argv[1], timeout=5).read())"
    connect = "import sys, socket; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('open')"
    host, _, port = clusters.a.server.removeprefix("https://").partition(":")

    def said(*arguments: str) -> str:
        run = ["run", "probe", "--restart=Never", f"--image={clusters.image}", "--image-pull-policy=IfNotPresent"]
        clusters.b.kubectl(*run, "--command", "--", "python", "-c", *arguments)
        ended = "--for=jsonpath={.status.phase}=Succeeded"
        clusters.b.kubectl("wait", "pod/probe", ended, "--timeout=60s")
        output = clusters.b.kubectl("logs", "probe")
        clusters.b.kubectl("delete", "pod", "probe")
        return output

    assert "backend[web-" in said(fetch, f"http://{address}")
    assert "open" in said(connect, host, port or "443")


def test_the_cloud_changes_an_address_at_once(played: PlayedClusters, service: str) -> None:
    old = played.a.load_balancer(service, "web")
    new = played.a.cloud.change_address(service, "web")
    assert new != old
    assert played.a.load_balancer(service, "web") == new
    played.a.eventually("an answer at the new address", lambda: played.curl(f"http://{new}"))
    with pytest.raises(HarnessError, match="curl"):
        played.curl(f"http://{old}", seconds=2)


def test_the_cloud_gives_a_name_as_aws_does(played: PlayedClusters, service: str) -> None:
    played.a.load_balancer(service, "web")
    name = played.a.cloud.use_hostname(service, "web")
    assert played.a.load_balancer(service, "web") == name == "web-harness-a.example.com"
    look = f"import socket; print(socket.gethostbyname('{name}'))"
    lookup = ["-n", service, "exec", "deployment/web", "--", "python", "-c", look]
    played.a.eventually("the name in the DNS", lambda: played.a.kubectl(*lookup).startswith("203.0.113."))


def test_a_cluster_that_is_cut_off_cannot_be_reached_until_it_is_mended(played: PlayedClusters) -> None:
    played.a.cut()
    try:
        with pytest.raises(HarnessError, match="kubectl"):
            played.a.kubectl("--request-timeout=2s", "get", "nodes")
        assert "b-node-2" in played.b.kubectl("get", "nodes")
    finally:
        played.a.mend()
    played.a.eventually("cluster A", lambda: played.a.kubectl("--request-timeout=2s", "get", "nodes"))


_WEB = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: harness}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: moorage:latest
        imagePullPolicy: IfNotPresent
        args: [app, backend]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: harness}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports:
  - {port: 80, targetPort: 8080}
"""
