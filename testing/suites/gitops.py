"""What deploys from Git finds stored what it wrote. The module that runs these tests gives `client`."""

from typing import Any

import pytest
import yaml

from moorage.cluster.client import APPLY_PATCH, Client
from testing.bad_externals import FULL
from testing.gitops import drift

SHORT: list[dict[str, Any]] = yaml.safe_load(
    """
- apiVersion: moorage.dev/v1alpha1
  kind: ExternalService
  metadata: {name: short}
  spec:
    ports: [{port: 53, name: tcp}, {port: 53, name: udp, protocol: UDP}]
    sessionAffinity: Mooring
    proxy: moorage
    sessionAffinityConfig: {mooring: {}}
    endpoints:
    - addresses: [{address: 203.0.113.11}]
    - dns: {name: db.example.com}
    - cluster: {kubeconfigSecretRef: {name: a, key: b}, namespace: c, selector: {}}
    healthCheck: {http: {tls: {}}}
    drain: [{endpoint: a}]
"""
)
"""What has a default left out, wherever it can be."""
OBJECTS = pytest.mark.parametrize("written", [*FULL, *SHORT], ids=lambda written: written["metadata"]["name"])


def path(namespace: str, written: dict[str, Any]) -> str:
    return f"/apis/{written['apiVersion']}/namespaces/{namespace}/{written['kind'].lower()}s"


@OBJECTS
async def test_an_object_is_stored_as_it_was_written(client: Client, namespace: str, written: dict[str, Any]) -> None:
    stored = await client.raw("POST", path(namespace, written), body=written)
    assert drift(written, stored) == []


@OBJECTS
async def test_an_object_that_is_applied_again_stays_as_it_is(
    client: Client, namespace: str, written: dict[str, Any]
) -> None:
    name = written["metadata"]["name"]
    params = {"fieldManager": "git", "fieldValidation": "Strict"}
    where = f"{path(namespace, written)}/{name}"

    async def apply() -> dict[str, Any]:
        return await client.raw("PATCH", where, params=params, body=written, content_type=APPLY_PATCH)

    first = await apply()
    assert drift(written, first) == []
    assert await apply() == first
