"""The EndpointSlices of an ExternalService: at most 100 endpoints each, changed with as few writes as possible."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from moorage.api import contract
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.core.model import Create, Delete, Patch, Write
from moorage.core.ownership import owns, reference
from moorage.core.packing import Packing, SliceContents, SliceKey, pack
from moorage.core.readiness import EndpointRow
from moorage.core.services import proxy_of


def ours(xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> list[EndpointSlice]:
    """The slices that we may change, by name."""
    found = [each for each in slices if owns(xsvc, each.metadata) and each.metadata.deletion_timestamp is None]
    return sorted(found, key=lambda each: each.metadata.name) if len(found) > 1 else found


def changes(
    xsvc: ExternalService,
    service: Service | None,
    rows: Sequence[EndpointRow],
    slices: Sequence[EndpointSlice],
) -> tuple[Write, ...]:
    """The writes that bring `slices` (all of the Service's, whoever owns them) to what `rows` say.

    After each write, every endpoint that was ready and should stay ready is ready: slices gain before others lose.
    `service` is ours, or None if there is none yet.
    """
    mine = ours(xsvc, slices)
    by_name = {each.endpoint.name: each for each in rows}
    ports = _Ports(xsvc, service)
    wanted = {name: ports.key(each) for name, each in by_name.items()}
    packing = pack(wanted, [_contents(each) for each in mine])
    shape = _Shape(xsvc, _proxy(xsvc, service), by_name, _weights(rows))
    taken = {each.metadata.name for each in slices}
    writes: list[Write] = [Create(shape.new(contents, taken)) for contents in packing.new]
    writes += _ordered(packing, mine, shape, by_name)
    return tuple(writes)


def _ordered(
    packing: Packing, mine: Sequence[EndpointSlice], shape: "_Shape", by_name: Mapping[str, EndpointRow]
) -> Iterator[Write]:
    patches: list[tuple[bool, bool, Patch]] = []
    deletes: list[Delete] = []
    for index, (slice_, contents) in enumerate(zip(mine, packing.kept, strict=True)):
        meta = slice_.metadata
        assert meta.uid is not None
        assert meta.resource_version is not None
        if not contents.names:
            deletes.append(Delete(EndpointSlice, meta.namespace or "", meta.name, meta.uid, meta.resource_version))
        elif body := shape.patch(slice_, contents):
            body.setdefault("metadata", {}).update(uid=meta.uid, resourceVersion=meta.resource_version)
            patch = Patch(EndpointSlice, meta.namespace or "", meta.name, body)
            patches.append((index in packing.losing, _loses(slice_, contents, by_name), patch))
    yield from (patch for *_, patch in sorted(patches, key=lambda each: each[:2]))
    yield from deletes


def _loses(slice_: EndpointSlice, contents: SliceContents, by_name: Mapping[str, EndpointRow]) -> bool:
    """Whether an endpoint that takes new connections in this slice no longer will."""
    ready = {name for name in contents.names if by_name[name].ready}
    return any(each.conditions.ready is not False and each.hostname not in ready for each in slice_.endpoints or ())


class _Ports:
    """The ports of each endpoint: those in the spec, and those that the Service still has under another name.

    A renamed port is in the slices under both names until the Service has changed; then the old name goes.
    """

    def __init__(self, xsvc: ExternalService, service: Service | None) -> None:
        spec = [
            (port.name or "", port.protocol, port.target_port or port.port, port.app_protocol)
            for port in xsvc.spec.ports
        ]
        names = {name for name, *_ in spec}
        self._ports = spec + [
            (each.name or "", each.protocol, each.target_port, each.app_protocol)
            for each in (service.spec.ports if service else None) or ()
            if (each.name or "") not in names and isinstance(each.target_port, int)
        ]
        self._keys: dict[tuple[str, int | None], SliceKey] = {}

    def key(self, row: EndpointRow) -> SliceKey:
        endpoint = row.endpoint
        family = "IPv6" if ":" in endpoint.address else "IPv4"
        key = self._keys.get((family, endpoint.port))
        if key is None:
            ports = tuple(
                EndpointPort(name=name, protocol=protocol, port=endpoint.port or port, app_protocol=application)
                for name, protocol, port, application in self._ports
            )
            key = self._keys[family, endpoint.port] = SliceKey(
                family, tuple(sorted(ports, key=lambda p: p.name or ""))
            )
        return key


class _Shape(NamedTuple):
    """What the slices of one ExternalService look like."""

    xsvc: ExternalService
    proxy: str | None
    by_name: Mapping[str, EndpointRow]
    weights: Mapping[str, int]
    """Weights other than 1."""

    def new(self, contents: SliceContents, taken: set[str]) -> EndpointSlice:
        """A new slice, with a name that is not in `taken`; the name is added to `taken`."""
        meta = self.xsvc.metadata
        number = 1
        while (name := f"{meta.name}-{number}") in taken:
            number += 1
        taken.add(name)
        return EndpointSlice(
            api_version="discovery.k8s.io/v1",
            kind="EndpointSlice",
            metadata=self._marks(contents).on(
                ObjectMeta(name=name, namespace=meta.namespace, owner_references=[reference(self.xsvc)])
            ),
            address_type=contents.key.address_type,
            endpoints=[_endpoint(self.by_name[name]) for name in contents.names],
            ports=list(contents.key.ports),
        )

    def patch(self, slice_: EndpointSlice, contents: SliceContents) -> dict[str, Any]:
        """A merge patch without its preconditions; empty if nothing has to change."""
        body: dict[str, Any] = {}
        if metadata := self._marks(contents).patch(slice_.metadata):
            body["metadata"] = metadata
        endpoints = [_endpoint(self.by_name[name]) for name in contents.names]
        if endpoints != slice_.endpoints:
            body["endpoints"] = msgspec.to_builtins(endpoints)
        if contents.key != _key(slice_):
            body["ports"] = msgspec.to_builtins(list(contents.key.ports))
        return body

    def _marks(self, contents: SliceContents) -> contract.Marks:
        weights = {name: self.weights[name] for name in contents.names if name in self.weights}
        return contract.encode_slice(contract.SliceContract(self.xsvc.metadata.name, self.proxy, weights))


def _proxy(xsvc: ExternalService, service: Service | None) -> str | None:
    """Who should carry the slices; kube-proxy looks for its label on Services and slices alike.

    Slices are handed over only after their Service and taken back before it, so that whoever carries the Service
    always has its endpoints: node agents look at all slices.
    """
    proxy = proxy_of(xsvc)
    if service is not None and contract.proxy_of(service.metadata) != proxy:
        return None
    return proxy


def _weights(rows: Sequence[EndpointRow]) -> dict[str, int]:
    """Weights other than 1, scaled to the range that node agents accept: those of SRV records go up to 65,535."""
    most = max((each.endpoint.weight for each in rows), default=1)
    if most <= 1:
        return {}
    scale = min(1.0, contract.MAX_WEIGHT / most)
    weights = {each.endpoint.name: max(1, round(each.endpoint.weight * scale)) for each in rows}
    return {name: weight for name, weight in weights.items() if weight != 1}


def _endpoint(row: EndpointRow) -> Endpoint:
    return Endpoint(
        addresses=[row.endpoint.address],
        conditions=_CONDITIONS[row.ready, row.serving],
        hostname=row.endpoint.name,
    )


_CONDITIONS = {
    (ready, serving): EndpointConditions(ready=ready, serving=serving, terminating=False)
    for ready in (True, False)
    for serving in (True, False)
}


def _contents(slice_: EndpointSlice) -> SliceContents:
    return SliceContents(_key(slice_), tuple(each.hostname or "" for each in slice_.endpoints or ()))


def _key(slice_: EndpointSlice) -> SliceKey:
    """With the API server's defaults: a port without a name has the empty one, one without a protocol TCP."""
    ports = (
        each
        if each.name is not None and each.protocol is not None
        else msgspec.structs.replace(each, name=each.name or "", protocol=each.protocol or "TCP")
        for each in slice_.ports or ()
    )
    return SliceKey(slice_.address_type, tuple(sorted(ports, key=lambda port: port.name or "")))
