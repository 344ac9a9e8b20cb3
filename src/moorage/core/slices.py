"""The EndpointSlices of an ExternalService: at most 100 endpoints each, changed with as few writes as possible."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from moorage.api import contract
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.topology import NO_HINTS, encode_hints
from moorage.core.model import Create, Delete, Patch, Write
from moorage.core.ownership import owns, reference
from moorage.core.packing import Packing, SliceContents, SliceKey, pack
from moorage.core.readiness import EndpointRow
from moorage.core.services import proxy_of
from moorage.core.steps import SliceChange, Turn, turns


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
    Where that is not enough, `steps` says in which order. The second write to a slice is left to the next decision,
    because it needs the answer to the first one. `service` is ours, or None if there is none yet.
    """
    mine = ours(xsvc, slices)
    by_name = {each.endpoint.name: each for each in rows}
    ports = _Ports(xsvc, service)
    wanted = {name: ports.key(each) for name, each in by_name.items()}
    packing = pack(wanted, [_contents(each) for each in mine])
    shape = _Shape(xsvc, _proxy(xsvc, service), by_name, _weights(rows))
    taken = {each.metadata.name for each in slices}
    parts = [_Part(slice_, contents) for slice_, contents in zip(mine, packing.kept, strict=True)]
    parts += [_Part(None, contents) for contents in packing.new]
    changed = [each for each in parts if shape.changes(each)]
    if len(changed) > 1 and _needs_steps(rows, mine):
        return tuple(_in_steps(parts, shape, taken))
    return tuple(shape.write(each, taken) for each in _ordered(changed, packing, mine, by_name))


def _needs_steps(rows: Sequence[EndpointRow], mine: Sequence[EndpointSlice]) -> bool:
    """Whether more than `_ordered` is needed: because of hints, or because no endpoint stays ready all through."""
    there = [each for slice_ in mine for each in slice_.endpoints or ()]
    ready = {each.endpoint.name for each in rows if each.ready}
    if not ready:
        return False
    lasting = any(each.conditions.ready is not False and each.hostname in ready for each in there)
    return not lasting or any(each.hints for each in there) or any(each.hints != NO_HINTS for each in rows)


class _Part(NamedTuple):
    """A slice, and what it is to hold."""

    slice: EndpointSlice | None
    """None: it is to be made."""
    contents: SliceContents


def _ordered(
    changed: Sequence[_Part], packing: Packing, mine: Sequence[EndpointSlice], by_name: Mapping[str, EndpointRow]
) -> Sequence[_Part]:
    """New slices first, then those that lose nothing; those that are to go last."""
    losing = {mine[index].metadata.name for index in packing.losing}

    def rank(part: _Part) -> tuple[bool, ...]:
        if part.slice is None:
            return (False,)
        name = part.slice.metadata.name
        return True, not part.contents.names, name in losing, _loses(part.slice, part.contents, by_name)

    return sorted(changed, key=rank)


def _loses(slice_: EndpointSlice, contents: SliceContents, by_name: Mapping[str, EndpointRow]) -> bool:
    """Whether an endpoint that takes new connections in this slice no longer will."""
    ready = {name for name in contents.names if by_name[name].ready}
    return any(each.conditions.ready is not False and each.hostname not in ready for each in slice_.endpoints or ())


def _in_steps(parts: Sequence[_Part], shape: "_Shape", taken: set[str]) -> Iterator[Write]:
    """The first write to each slice, up to the second one to any."""
    steps = turns(
        [
            SliceChange(
                (part.slice.endpoints if part.slice else None) or (),
                [endpoint_of(shape.by_name[name]) for name in part.contents.names],
                part.slice is not None and bool(part.contents.names) and part.contents.key != _key(part.slice),
            )
            for part in parts
        ]
    )
    written = set[int]()
    for turn in steps:
        if turn.slice in written:
            return
        written.add(turn.slice)
        yield shape.write(parts[turn.slice], taken, turn)
    for index, part in enumerate(parts):
        if index not in written and shape.changes(part):
            yield shape.write(part, taken)


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

    def changes(self, part: _Part) -> bool:
        """Whether anything of this slice is to be written."""
        return part.slice is None or not part.contents.names or bool(self._patch(part.slice, part.contents))

    def write(self, part: _Part, taken: set[str], turn: Turn | None = None) -> Write:
        """The write that makes this slice what it is to be, or what it is to be after this `turn`.

        A new slice gets a name that is not in `taken`, and it is added there.
        """
        slice_, contents = part
        if slice_ is None:
            return Create(self._new(contents, taken, turn))
        meta = slice_.metadata
        assert meta.uid is not None
        assert meta.resource_version is not None
        if not contents.names and not (turn and turn.endpoints):
            return Delete(EndpointSlice, meta.namespace or "", meta.name, meta.uid, meta.resource_version)
        body = self._patch(slice_, contents, turn)
        body.setdefault("metadata", {}).update(uid=meta.uid, resourceVersion=meta.resource_version)
        return Patch(EndpointSlice, meta.namespace or "", meta.name, body)

    def _new(self, contents: SliceContents, taken: set[str], turn: Turn | None) -> EndpointSlice:
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
            endpoints=self._endpoints(contents, turn),
            ports=list(contents.key.ports),
        )

    def _endpoints(self, contents: SliceContents, turn: Turn | None) -> list[Endpoint]:
        return list(turn.endpoints) if turn else [endpoint_of(self.by_name[name]) for name in contents.names]

    def _patch(self, slice_: EndpointSlice, contents: SliceContents, turn: Turn | None = None) -> dict[str, Any]:
        """A merge patch without its preconditions; empty if nothing has to change."""
        body: dict[str, Any] = {}
        if metadata := self._marks(contents).patch(slice_.metadata):
            body["metadata"] = metadata
        endpoints = self._endpoints(contents, turn)
        if endpoints != slice_.endpoints:
            body["endpoints"] = msgspec.to_builtins(endpoints)
        if (turn is None or turn.ports) and contents.key != _key(slice_):
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


def endpoint_of(row: EndpointRow) -> Endpoint:
    """How a slice lists an endpoint."""
    return Endpoint(
        addresses=[row.endpoint.address],
        conditions=_CONDITIONS[row.ready, row.serving],
        hostname=row.endpoint.name,
        hints=encode_hints(row.hints),
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
