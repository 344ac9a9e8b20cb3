"""Fixtures of the end-to-end tests. All of them are made once, when the first test asks.

- `api_server`: a real kube-apiserver on loopback, with Moorage's CRDs; no nodes, no controllers; ready in seconds.
  For tests of the API, the client and the operator as a process of this machine.
- `namespace`: a new namespace of `api_server`, for one test.

What they give is blocking: in an asynchronous test, `await asyncio.to_thread(api_server.kubectl, ...)`.
"""

import itertools
import subprocess
import sys
from collections.abc import Iterator

import pytest

from e2e.harness import control_plane
from e2e.harness.control_plane import ApiServer

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real API server: `kubeconfig` (path), `server`, `token`, `credentials.ca`, `kubectl(...)`, `restart()`."""
    with control_plane.api_server() as server:
        install_crds(server)
        yield server


@pytest.fixture
def namespace(api_server: ApiServer) -> Iterator[str]:
    """The name of a new namespace of `api_server`, deleted afterwards (without waiting: nothing finishes that)."""
    name = f"test-{next(_NUMBERS)}"
    api_server.kubectl("create", "namespace", name)
    yield name
    api_server.kubectl("delete", "namespace", name, "--wait=false")


def install_crds(server: ApiServer) -> None:
    """What `moorage crds` prints, applied, and established."""
    done = subprocess.run([sys.executable, "-m", "moorage", "crds"], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        server.apply(done.stdout)
        server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
