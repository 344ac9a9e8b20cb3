"""A reflector of metadata, on an API server that can send it alone and on one that cannot."""

import asyncio

from moorage.api.apps_v1 import ReplicaSet
from moorage.cluster.client import Client
from moorage.cluster.metadata import MetadataOnly
from moorage.cluster.reflector import Reflector
from testing.eventually import eventually
from tests.support.apiserver import api_server


async def test_a_reflector_follows_objects_by_their_metadata() -> None:
    async with api_server() as server, Client(server.config) as client:
        reflector = Reflector(MetadataOnly(client), ReplicaSet)
        running = asyncio.create_task(reflector.run())
        await reflector.synced.wait()
        labels = {"app": "a"}
        body = {
            "metadata": {"name": "a"},
            "spec": {
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}},
            },
        }
        await server.create("/apis/apps/v1/namespaces/default/replicasets", body)

        async def seen() -> bool:
            return [each.metadata.name for each in reflector.store.values()] == ["a"]

        await eventually(seen)
        running.cancel()
        await asyncio.wait([running])
