"""The lab's API server does what Moorage expects of any. `e2e/test_parity.py` holds kube-apiserver to the same."""

from collections.abc import AsyncGenerator

import pytest

from moorage.cluster.client import Client
from testing.suites.objects import namespace as namespace
from testing.suites.parity import *  # noqa: F403
from testing.suites.parity_writes import *  # noqa: F403
from tests.support.apiserver import api_server


@pytest.fixture
async def client() -> AsyncGenerator[Client, None]:
    async with api_server() as server, Client(server.config) as client:
        yield client
