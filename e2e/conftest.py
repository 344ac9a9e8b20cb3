"""Fixtures of the end-to-end tests. Those of the session are made once, when the first test asks for them.

- `kubernetes`: which of the Kubernetes that are built (a module of e2e/binaries) the API servers below are of: the
  newest, and for tests marked `every_kubernetes` each in turn (`-k kubernetes-1.35` runs those against one).
- `api_server`: a real kube-apiserver on loopback, with Moorage's CRDs; no nodes, no controllers; ready in seconds.
  For tests of the API, of the client, and of the operator as a process of this machine.
- `api`, `token`: another one, of the module's own, with `deploy/operator`, and the token of the operator's account.
- `namespace`: a new namespace of `api_server`, for one test.
- `clusters`: two whole clusters, `clusters.a` and `clusters.b`, with nodes that run pods; their API servers are
  reached by `clusters.a.kubectl(...)`, load balancers by `clusters.curl(...)`. With `E2E_KUBECONFIG_A`,
  `E2E_KUBECONFIG_B` and `E2E_IMAGE` they are existing ones.
- `stalls`: `stalls.since(moment)`, the seconds that this machine lost since then, for bounds in seconds.
- `played`: `clusters`, for tests that need what only the clusters of this machine can do: `played.a.cloud` (changes
  load balancers' addresses), `played.a.cut()`, `played.b.joined(node)`, `played.dns`. Skipped, with the reason, on
  existing clusters.

What they give is blocking: in an asynchronous test, `await asyncio.to_thread(api_server.kubectl, ...)`.
"""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.harness import builds, control_plane, coverage, operator
from e2e.harness import clusters as interface
from e2e.harness import played as local
from e2e.harness.clusters import Clusters
from e2e.harness.control_plane import ApiServer
from e2e.harness.played import PlayedClusters
from testing.stalls import Stalls

_NUMBERS = itertools.count(1)
_TIMEOUT_SECONDS = 600
"""Seconds for a test with the fixtures that it is the first to ask for; a test may mark another."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "every_kubernetes: run against the API server of each Kubernetes that is built"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Always with a parameter, so that all tests of one Kubernetes share its API server."""
    if "kubernetes" not in metafunc.fixturenames:
        return
    each = [pytest.param(builds.KUBERNETES, id=pytest.HIDDEN_PARAM)]
    if metafunc.definition.get_closest_marker("every_kubernetes"):
        each = [pytest.param(one, id=builds.release(one)) for one in (builds.KUBERNETES, builds.OLDEST_KUBERNETES)]
    metafunc.parametrize("kubernetes", each, indirect=True, scope="session")


@pytest.hookimpl(tryfirst=True)  # a worker of xdist reads the groups in its own hook, and would not see these
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that need whole clusters run last, since what is quick fails first; or, in `make e2e`, beside the others.

    They are a group of their own (`--dist loadgroup`), so that the clusters are started once.
    """

    def whole(item: pytest.Item) -> bool:
        return "clusters" in getattr(item, "fixturenames", ())

    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT_SECONDS))
        item.add_marker(pytest.mark.xdist_group("clusters" if whole(item) else "api"))
    items.sort(key=whole)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was covered, module by module."""
    reports = {outcome: terminalreporter.getreports(outcome) for outcome in ("passed", "skipped", "failed", "error")}
    counts = coverage.counts({name: [report.nodeid for report in each] for name, each in reports.items()})
    for line in coverage.table(counts, coverage.areas(Path(__file__).parent)):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> str:
    module: str = request.param
    return module


@pytest.fixture(scope="session")
def api_server(kubernetes: str) -> Iterator[ApiServer]:
    """A real API server: `kubeconfig` (path), `server`, `token`, `credentials.ca`, `kubectl(...)`, `restart()`."""
    with control_plane.api_server(kubernetes=kubernetes) as server:
        install_crds(server)
        yield server


@pytest.fixture(scope="module")
def api(kubernetes: str) -> Iterator[ApiServer]:
    """A real API server of the module's own, which it may restart, and in which nobody else has ExternalServices."""
    with control_plane.api_server(kubernetes=kubernetes) as server:
        yield server


@pytest.fixture(scope="module")
def token(api: ApiServer) -> str:
    """That of the operator's account, in `api`, with the rights and CRDs of `deploy/operator`."""
    return operator.install(api)


@pytest.fixture(scope="session")
def stalls() -> Iterator[Stalls]:
    with Stalls() as stalls:
        yield stalls


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """The name of a new namespace of `api_server`, deleted afterwards (without waiting: nothing finishes that)."""
    name = f"test-{next(_NUMBERS)}"
    api_server.kubectl("create", "namespace", name)
    yield name
    api_server.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def clusters() -> Iterator[Clusters]:
    """A and B, ready to run pods of the image `clusters.image`."""
    existing = interface.existing()
    if existing is not None:
        yield existing
        return
    with local.clusters() as both:
        yield both


@pytest.fixture(scope="session")
def played(clusters: Clusters) -> PlayedClusters:
    """The same, for what cannot be done to existing clusters."""
    if not isinstance(clusters, PlayedClusters):
        pytest.skip("existing clusters: their cloud, network and names are not the test's to change")
    return clusters


def install_crds(server: ApiServer) -> None:
    """What `moorage crds` prints, applied, and established."""
    done = subprocess.run([sys.executable, "-m", "moorage", "crds"], capture_output=True, text=True, check=True)
    server.apply(done.stdout)
    server.until_definitions_are_served()
