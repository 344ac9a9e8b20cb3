import asyncio

from moorage.api.core_v1 import Event
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster.client import Client
from moorage.core.model import Happening
from moorage.operator.recorder import Recorder
from tests.support.apiserver import api_server
from tests.support.eventually import eventually

XSVC = ExternalService(metadata=ObjectMeta(name="backend", namespace="default", uid="1", resource_version="7"))
SICK = Happening("Warning", "EndpointUnhealthy", "endpoint backend1 (203.0.113.1:80): connection refused")


async def test_what_happens_to_an_external_service_becomes_an_event_of_it() -> None:
    async with api_server() as server, Client(server.config) as client:
        recorder = Recorder(client, "me", lambda: "2027-01-01T00:00:00Z")
        running = asyncio.create_task(recorder.run())
        recorder.record(XSVC, SICK)
        assert recorder.waiting == 1

        async def told() -> bool:
            return bool((await client.list(Event, "default")).items)

        await eventually(told)
        [event] = (await client.list(Event, "default")).items
        about = event.involved_object
        assert (about.kind, about.namespace, about.name, about.uid) == ("ExternalService", "default", "backend", "1")
        assert (event.type, event.reason, event.message) == SICK
        assert event.source == {"component": "moorage-operator", "host": "me"}
        running.cancel()
