"""ExternalServices in few words, and a cluster that takes what was decided about them as an API server would."""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec.structs import replace

from moorage.api import validation
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.kinds import kind_of
from moorage.api.meta import LabelSelector, Object, ObjectMeta
from moorage.api.moorage_v1alpha1 import (
    KINDS_OF_PODS,
    ExternalService,
    ExternalServicePort,
    ExternalServiceSpec,
    MooringConfig,
    SessionAffinityConfig,
)
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.sources_v1alpha1 import EndpointSource, HealthCheck, StaticAddress
from moorage.core.admission import Gate, gate_of
from moorage.core.decide import decide
from moorage.core.endpoints import Merged
from moorage.core.model import (
    Complaint,
    Create,
    Decision,
    Delete,
    Endpoint,
    Found,
    Health,
    Patch,
    Resolution,
    Verdict,
    Write,
)
from moorage.core.mooring_model import Moored
from moorage.core.snapshot import Snapshot
from moorage_lab.apiserver.addresses import ClusterIPs
from moorage_lab.apiserver.defaults import with_defaults
from moorage_lab.apiserver.patches import merge_patch

NAMESPACE, NAME, UID = "frontend", "backend", "11111111-0000-4000-8000-000000000001"
THEN, NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z", "2026-01-01T00:02:00Z"
HTTP = ExternalServicePort(name="http", port=9000, target_port=80)
GATE = gate_of()
MOORED: dict[str, Any] = {
    "session_affinity": "Mooring",
    "session_affinity_config": SessionAffinityConfig(mooring=MooringConfig(client="Node")),
}
"""Fields of the spec of one whose nodes are moored, whoever carries it."""


def xsvc(
    *, uid: str = UID, generation: int = 1, ports: Sequence[ExternalServicePort] = (HTTP,), **spec: Any
) -> ExternalService:
    """ExternalService frontend/backend, checked over TCP; `spec` are fields of its spec."""
    spec = {"health_check": HealthCheck(), **spec}
    return ExternalService(
        metadata=ObjectMeta(name=NAME, namespace=NAMESPACE, uid=uid, resource_version="7", generation=generation),
        spec=ExternalServiceSpec(ports=list(ports), **spec),
    )


def static(*addresses: StaticAddress) -> list[EndpointSource]:
    return [EndpointSource(addresses=list(addresses))]


def endpoints(count: int, first: int = 1, **fields: Any) -> tuple[Endpoint, ...]:
    """`b0001` at 198.18.0.1 and so on."""
    return tuple(
        Endpoint(
            f"b{number:04}", f"198.{18 + number // 65536}.{number // 256 % 256}.{number % 256}", "addresses", **fields
        )
        for number in range(first, first + count)
    )


def found(each: Iterable[Endpoint]) -> tuple[Found, ...]:
    return tuple(Found(e.name, e.address, e.port, e.weight, e.priority, zone=e.zone) for e in each)


def answers(each: Iterable[Endpoint], source: str = "addresses") -> tuple[Resolution, ...]:
    """One source that has found these."""
    return (Resolution(source, found(each)),)


def verdicts(each: Iterable[Endpoint], **exceptions: Health) -> dict[str, Verdict]:
    """Healthy, but for those named."""
    healths: dict[str, Health] = {**{endpoint.name: "Healthy" for endpoint in each}, **exceptions}
    return {
        name: Verdict(health, THEN, "connection refused" if health == "Unhealthy" else None)
        for name, health in healths.items()
    }


_TYPES: dict[str, type[Object]] = {"Service": Service, "EndpointSlice": EndpointSlice, "Mooring": Mooring}


class RefusedError(Exception):
    """A write that an API server would not take; its status is the first argument."""


class Cluster:
    """Services, slices and Moorings, in JSON as an API server stores them: defaults, validation, preconditions."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        """By kind and name; one namespace is enough."""
        self.writes = 0
        self._uids = 0
        self._version = 100
        self._ips = ClusterIPs(["10.96.0.0/16", "fd00:96::/112"])

    def put(self, obj: Object) -> None:
        """Store an object of anyone's."""
        self.do(Create(obj))  # type: ignore[arg-type]
        self.writes -= 1

    def do(self, write: Write) -> None:
        """Raises RefusedError."""
        self.writes += 1
        match write:
            case Create(obj):
                key = kind_of(type(obj)).kind, obj.metadata.name
                if key in self.objects:
                    raise RefusedError(409, key)
                stored = msgspec.to_builtins(obj)
                self._uids += 1
                stored["metadata"]["uid"] = f"22222222-0000-4000-8000-{self._uids:012}"
                self._store(key, stored, None)
            case Patch(kind, _, name, body):
                key = kind_of(kind).kind, name
                old = self._checked(key, body["metadata"])
                self._store(key, merge_patch(old, msgspec.json.decode(msgspec.json.encode(body))), old)
            case Delete(kind, _, name, uid, version):
                key = kind_of(kind).kind, name
                self._checked(key, {"uid": uid, "resourceVersion": version})
                del self.objects[key]

    def _checked(self, key: tuple[str, str], preconditions: Mapping[str, Any]) -> dict[str, Any]:
        old = self.objects.get(key)
        if old is None:
            raise RefusedError(404, key)
        assert {"uid", "resourceVersion"} <= set(preconditions)
        if any(old["metadata"][field] != preconditions[field] for field in ("uid", "resourceVersion")):
            raise RefusedError(409, key)
        return old

    def _store(self, key: tuple[str, str], new: dict[str, Any], old: dict[str, Any] | None) -> None:
        kind = kind_of(_TYPES[key[0]])
        with_defaults(kind, new)
        if key[0] == "Service":
            self._ips.assign(new, old)
        errors = validation.validate(new, strict=True) + (validation.validate_update(new, old) if old else [])
        assert not errors, errors
        if old is not None and {**old, "metadata": None} == {**new, "metadata": None} and _meta(old) == _meta(new):
            return
        self._version += 1
        new["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = new
        if key[0] == "Service":
            self._ips.record(new)

    def edit(self, kind: str, name: str, patch: dict[str, Any]) -> None:
        """Somebody else's merge patch."""
        old = self.objects[kind, name]
        self._store((kind, name), merge_patch(old, patch), old)

    @property
    def service(self) -> Service | None:
        raw = self.objects.get(("Service", NAME))
        return msgspec.convert(raw, Service) if raw else None

    @property
    def slices(self) -> list[EndpointSlice]:
        return [
            msgspec.convert(raw, EndpointSlice)
            for (kind, _), raw in sorted(self.objects.items())
            if kind == "EndpointSlice"
        ]

    def contents(self) -> list[dict[str, Any]]:
        """Everything but uids and versions."""
        return [
            {**raw, "metadata": {k: v for k, v in raw["metadata"].items() if k not in ("uid", "resourceVersion")}}
            for _, raw in sorted(self.objects.items())
        ]

    def ready(self) -> dict[str, set[tuple[str, str, int]]]:
        """By name of the endpoint, where new connections go: Service port, address and port."""
        service = self.service
        names = {port.name or "" for port in (service.spec.ports if service else None) or ()}
        result: dict[str, set[tuple[str, str, int]]] = {}
        for slice_ in self.slices:
            for endpoint in slice_.endpoints or ():
                if endpoint.conditions.ready is not False:
                    for port in slice_.ports or ():
                        if (port.name or "") in names:
                            where = port.name or "", endpoint.addresses[0], port.port or 0
                            result.setdefault(endpoint.hostname or "", set()).add(where)
        return result


def _meta(obj: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj["metadata"].items() if key != "resourceVersion"}


class Story:
    """One ExternalService over time: each `step` decides and does."""

    def __init__(self, xsvc: ExternalService, cluster: Cluster | None = None) -> None:
        self.xsvc = xsvc
        self.cluster = cluster or Cluster()
        self.gate: Gate = GATE
        self.moored: Moored | None = None
        """Where its clients are, if they are moored."""

    def decide(self, each: Sequence[Endpoint], now: str = NOW, **exceptions: Health) -> Decision:
        """With these endpoints, healthy but for the exceptions."""
        unchecked = self.xsvc.spec.health_check is None
        given = verdicts(each, **exceptions)
        if unchecked:
            given = {name: Verdict("Unchecked", THEN) for name in given}
        return self.decide_from(answers(each), given, now)

    def decide_from(
        self, resolutions: Sequence[Resolution], given: Mapping[str, Verdict], now: str = NOW
    ) -> Decision:
        return decide(self.snapshot(resolutions, given, now))

    def snapshot(
        self, resolutions: Sequence[Resolution], given: Mapping[str, Verdict] = MappingProxyType({}), now: str = NOW
    ) -> Snapshot:
        cluster = self.cluster
        return Snapshot(
            self.xsvc,
            resolutions,
            self.gate,
            now,
            cluster.slices,
            cluster.service,
            verdicts=given,
            moored=self.moored,
        ).merge()

    def merged(self, resolutions: Sequence[Resolution]) -> Merged:
        return self.snapshot(resolutions).merged

    def do(self, decision: Decision) -> None:
        for write in decision.writes:
            self.cluster.do(write)
        self.xsvc = replace(self.xsvc, status=decision.status)

    def step(self, each: Sequence[Endpoint], now: str = NOW, **exceptions: Health) -> Decision:
        """The first decision, after which all that follow from it are done, too."""
        first = decision = self.decide(each, now, **exceptions)
        self.do(decision)
        for _ in range(3):
            decision = self.decide(each, now, **exceptions)
            if not decision.writes and decision.status == self.xsvc.status:
                return first
            self.do(decision)
        raise AssertionError(f"does not come to rest: {decision}")

    def change(self, **spec: Any) -> None:
        """Somebody edits the spec."""
        meta = replace(self.xsvc.metadata, generation=(self.xsvc.metadata.generation or 0) + 1)
        self.xsvc = replace(self.xsvc, metadata=meta, spec=replace(self.xsvc.spec, **spec))


def story_of(client: str, **spec: Any) -> Story:
    """An ExternalService whose clients, of this kind, are moored."""
    selector = LabelSelector() if client in KINDS_OF_PODS else None
    label = "example.com/tenant" if client == "Label" else None
    config = SessionAffinityConfig(mooring=MooringConfig(client=client, pod_selector=selector, label=label))
    return Story(xsvc(session_affinity="Mooring", session_affinity_config=config, **spec))


def moored(kind: str, problems: tuple[Complaint, ...] = (), **at: str) -> Moored:
    """`b0001="n1 n2"`: two clients are at that endpoint."""
    return Moored(kind, {name: tuple(clients.split()) for name, clients in at.items()}, problems)
