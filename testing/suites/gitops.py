"""What deploys from Git finds stored what it wrote. The module that runs these tests gives `client`."""

from typing import Any

import pytest
import yaml

from moorage.api.moorage_v1alpha1 import PENDING
from moorage.cluster.client import APPLY_PATCH, MERGE_PATCH, Client
from testing.bad_externals import FULL
from testing.gitops import drift, kstatus

SHORT: list[dict[str, Any]] = yaml.safe_load(
    """
- apiVersion: moorage.dev/v1alpha1
  kind: ExternalService
  metadata: {name: short}
  spec:
    ports: [{port: 53, name: tcp}, {port: 53, name: udp, protocol: UDP}]
    sessionAffinity: Mooring
    proxy: moorage
    sessionAffinityConfig: {mooring: {podSelector: {}}}
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
    # Until an operator has written a status, the next write stores the default one.
    second = await apply()
    assert (second["spec"], second["metadata"]["generation"]) == (first["spec"], 1)
    assert await apply() == second


async def test_a_new_object_is_in_progress_before_anybody_has_written_a_status(
    client: Client, namespace: str
) -> None:
    written = {**SHORT[0], "status": {"healthy": "9/9"}}
    made = await client.raw("POST", path(namespace, written), body=written)
    assert made["status"] == PENDING
    found = await client.raw("GET", f"{path(namespace, written)}/short")
    assert found["status"] == PENDING
    assert kstatus(found) == "InProgress"
    assert made["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"], "it has cost no write"


async def test_a_status_that_is_written_takes_the_place_of_the_first_one(client: Client, namespace: str) -> None:
    where = f"{path(namespace, SHORT[0])}/short"
    made = await client.raw("POST", path(namespace, SHORT[0]), body=SHORT[0])
    ready = [{"type": "Ready", "status": "True"}]
    patch = {"status": {"observedGeneration": 1, "conditions": ready}}
    written = await client.raw("PATCH", f"{where}/status", body=patch, content_type=MERGE_PATCH)
    assert written["status"] == {"observedGeneration": 1, "conditions": ready}
    assert kstatus(written) == "Current"
    patch = {"spec": {"proxy": "moorage", "suspend": True}}
    edited = await client.raw("PATCH", where, body=patch, content_type=MERGE_PATCH)
    assert edited["metadata"]["generation"] == made["metadata"]["generation"] + 1
    assert kstatus(edited) == "InProgress"
