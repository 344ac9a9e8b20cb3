"""On the lab's API server. `e2e/test_gitops.py` holds kube-apiserver to the same."""

from collections.abc import AsyncGenerator

import pytest

from moorage.cluster.client import Client
from testing.gitops import drift
from testing.suites.gitops import *  # noqa: F403
from testing.suites.objects import namespace as namespace
from tests.support.apiserver import api_server


@pytest.fixture
async def client() -> AsyncGenerator[Client, None]:
    async with api_server() as server, Client(server.config) as client:
        yield client


def test_what_a_server_adds_is_drift_inside_a_list_only() -> None:
    written = {"spec": {"ports": [{"port": 53}], "check": {}}}
    assert drift(written, {"spec": {"ports": [{"port": 53}], "check": {"fall": 3}, "proxy": "x"}}) == []
    assert drift(written, {"spec": {"ports": [{"port": 53, "protocol": "TCP"}], "check": {}}}) == [".spec.ports"]
    assert drift(written, {"spec": {"ports": [{"port": 53}]}}) == [".spec.check"]


def test_a_status_is_no_drift() -> None:
    assert drift({"status": {"healthy": "1/1"}}, {}) == []
