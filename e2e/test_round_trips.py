"""What is decided, written to the real API server and read back is what was decided: with all that it fills in."""

from collections.abc import AsyncGenerator, Iterator

import pytest

from e2e.conftest import install_crds
from e2e.harness import control_plane
from e2e.harness.control_plane import ApiServer
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from testing.suites.objects import namespace as namespace  # the suite's own, not that of conftest.py
from testing.suites.round_trips import *  # noqa: F403
from testing.suites.round_trips import RANGES


@pytest.fixture(scope="module")
def dual_stack() -> Iterator[ApiServer]:
    with control_plane.api_server(arguments=[f"--service-cluster-ip-range={','.join(RANGES)}"]) as server:
        install_crds(server)
        yield server


@pytest.fixture
async def client(dual_stack: ApiServer) -> AsyncGenerator[Client, None]:
    async with Client(kubeconfig.load(dual_stack.kubeconfig)) as client:
        yield client
