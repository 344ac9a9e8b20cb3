"""Two API servers of the lab: this cluster's Secrets, the other's Services, and the sources between them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from moorage.api.core_v1 import (
    Namespace,
    Service,
)
from moorage.api.meta import LabelSelector, ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    EndpointStatus,
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    ExternalServiceStatus,
)
from moorage.api.sources_v1alpha1 import ClusterSource, EndpointSource, SecretKeyReference
from moorage.cluster.client import Client
from moorage.core.model import Resolution
from moorage.discovery.sources import Sources
from testing.eventually import eventually
from tests.support.apiserver import RunningApiServer, api_server
from tests.support.fake_names import FakeNames
from tests.support.tenants import LOOPBACK_ALLOWED, kubeconfig_of, secret

KEY = ObjectKey("frontend", "backend")


def external(
    *selectors: dict[str, str] | None,
    known: dict[str, str] | None = None,
    target: int = 80,
    zone: str | None = None,
) -> Any:
    ref = SecretKeyReference(name="cluster-a", key="kubeconfig")
    return ExternalService(
        metadata=ObjectMeta(name="backend", namespace="frontend"),
        spec=ExternalServiceSpec(
            ports=[ExternalServicePort(port=9000, target_port=target)],
            endpoints=[
                EndpointSource(
                    cluster=ClusterSource(
                        kubeconfig_secret_ref=ref,
                        namespace="backend",
                        selector=LabelSelector(match_labels=each),
                        zone=zone,
                    )
                )
                for each in selectors or (None,)
            ],
        ),
        status=ExternalServiceStatus(
            endpoints=[
                EndpointStatus(name=name, address=address, source="cluster/backend", health="Healthy", ready=True)
                for name, address in (known or {}).items()
            ]
        ),
    )


class TwoClusters:
    def __init__(self, here: Client, there: Client, other: RunningApiServer) -> None:
        self.here = here
        self.there = there
        self.other = other
        self.names = FakeNames()
        self.gate = LOOPBACK_ALLOWED
        self.changes = 0
        self.sources = Sources(here, self.names, lambda: self.gate, self._changed, now=lambda: "T")

    def _changed(self, key: ObjectKey) -> None:
        assert key == KEY
        self.changes += 1

    @property
    def now(self) -> Resolution:
        return self.sources.resolutions(KEY)[0]

    @property
    def found(self) -> dict[str, str] | None:
        return None if self.now.endpoints is None else {each.name: each.address for each in self.now.endpoints}

    async def until(self, found: dict[str, str] | None, reason: str | None = None) -> None:
        async def condition() -> bool:
            problem = self.now.problem
            return self.found == found and (problem.reason if problem else None) == reason

        try:
            await eventually(condition)
        except TimeoutError:
            pytest.fail(f"still {self.now}")

    async def give(self, text: str | None = None) -> None:
        given = secret(text or kubeconfig_of(self.other.config))
        await self.here.apply(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "cluster-a", "namespace": "frontend"},
                "data": given.data,
            },
            field_manager="test",
        )

    async def service(
        self, name: str, *ingress: str, type: str = "LoadBalancer", port: int = 80, **labels: str
    ) -> None:
        """A Service of the other cluster whose load balancer has these addresses or names."""
        obj = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "backend", "labels": labels},
            "spec": {"type": type, "ports": [{"port": port}]},
        }
        await self.there.apply(obj, field_manager="test")
        entries = [{"ip" if each[0].isdigit() else "hostname": each} for each in ingress]
        body = {"status": {"loadBalancer": {"ingress": entries}}}
        await self.there.patch(Service, "backend", name, body, subresource="status")


@asynccontextmanager
async def two_clusters() -> AsyncIterator["TwoClusters"]:
    """This cluster with the namespace `frontend`, another one with `backend`, and sources that follow nothing yet."""
    async with (
        api_server() as own,
        api_server(tls=True) as other,
        Client(own.config) as here,
        Client(other.config) as there,
    ):
        await here.create(Namespace(metadata=ObjectMeta(name="frontend")))
        await there.create(Namespace(metadata=ObjectMeta(name="backend")))
        made = TwoClusters(here, there, other)
        yield made
        await made.sources.close()
