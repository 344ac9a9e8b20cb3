"""What Moorage expects of any API server, held against the real one: the very tests that the lab's server passes."""

from collections.abc import AsyncGenerator

import pytest

from e2e.harness.control_plane import ApiServer
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from tests.cluster.test_parity import *  # noqa: F403
from tests.cluster.test_parity_writes import *  # noqa: F403
from tests.support.parity import namespace as namespace  # the suite's own, not that of conftest.py


@pytest.fixture
async def client(api_server: ApiServer) -> AsyncGenerator[Client, None]:  # type: ignore[no-redef]
    async with Client(kubeconfig.load(api_server.kubeconfig)) as client:
        yield client
