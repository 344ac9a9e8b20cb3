"""What is decided, written to the lab's API server and read back is what was decided."""

from collections.abc import AsyncGenerator

import pytest

from moorage.cluster.client import Client
from testing.suites.objects import namespace as namespace
from testing.suites.round_trips import *  # noqa: F403
from testing.suites.round_trips import RANGES
from tests.support.apiserver import api_server


@pytest.fixture
async def client() -> AsyncGenerator[Client, None]:
    async with api_server(service_ranges=RANGES) as server, Client(server.config) as client:
        yield client
