"""Merges what the sources have found into the endpoints that are used."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec
from moorage.api.show import show
from moorage.api.sources_v1alpha1 import StaticAddress
from moorage.core.admission import EXTERNAL_IP
from moorage.core.model import Complaint, Endpoint, Found, Resolution
from moorage.core.ownership import owns

MAX_ENDPOINTS = 1000
"""Of one ExternalService; the same as for one source. A decision about 1,000 takes some 16 ms, and the status lists
them in some 100 KiB; a decision about 16,000 took 0.3 s."""
_MAX_CANDIDATES = 2 * MAX_ENDPOINTS
"""How many candidates are looked at: refused ones are no endpoints, but they cost time, too."""
MAX_NAMES = 3
"""How many names of one sort a message lists."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Refusing(Protocol):
    """The part of `core.admission.Gate` that is used here."""

    def refusal(self, address: str) -> str | None: ...


class Merged(NamedTuple):
    """The endpoints of all sources of an ExternalService."""

    endpoints: tuple[Endpoint, ...]
    """Sorted by name; no two have the same name, or the same address and port."""
    complaints: tuple[Complaint, ...] = ()
    """AddressRefused: the gate refuses an address. TooManyEndpoints: there are more than MAX_ENDPOINTS.
    EndpointConflict: another endpoint has the same name, or the same address and port."""

    @property
    def refused(self) -> dict[str, str]:
        """The addresses that the gate refused, by name."""
        return {
            each.endpoint: each.address
            for each in self.complaints
            if each.reason == "AddressRefused" and each.endpoint and each.address
        }


class _Candidate(NamedTuple):
    where: str
    """The field of the spec: `spec.endpoints[0].dns`."""
    found: Found
    source: str
    kept: bool
    """It was in use before, and its source has not answered since this process started."""


def merge(
    xsvc: ExternalService,
    resolutions: Sequence[Resolution],
    gate: Refusing,
    slices: Sequence[EndpointSlice] = (),
) -> Merged:
    """Merges `resolutions`, one for each source of the spec, into endpoints.

    The first to claim a name, or an address and port, gets it. If there are more than MAX_ENDPOINTS, those in use,
    according to the status and `slices`, go first, then those that come first. A source that has not answered yet
    keeps its endpoints from the status, and those in our `slices` that the status does not have (a process may end
    between writing the two); if nothing would be left because of such a source, all endpoints stay. Everything must
    pass the gate, even endpoints that are kept: a pod may have the address by now. But an endpoint in use stays if a
    Service claims its address as an external IP: whoever writes Services, in any namespace, may claim any address.
    """
    target = _only_target(xsvc.spec)
    taken: dict[str, Endpoint] = {}
    at: dict[tuple[str, int | None], str] = {}
    refused: list[Complaint] = []
    conflicts: list[Complaint] = []
    used = _Used(xsvc, slices)
    candidates = list(_candidates(xsvc, resolutions, slices))
    if len(candidates) > MAX_ENDPOINTS:
        candidates.sort(key=lambda each: each.found.name not in used.addresses)
    over = [each.found.name for each in candidates[_MAX_CANDIDATES:]]
    for where, found, source, kept in candidates[:_MAX_CANDIDATES]:
        why = _refusal(found, gate)
        if why and EXTERNAL_IP in why and used.addresses.get(found.name) == found.address:
            conflicts.append(_refused("EndpointConflict", where, found, source, f"{_CLAIMED}; it stays in use"))
        elif why:
            refused.append(_refused("AddressRefused", where, found, source, why))
            continue
        port = found.port if target is not None and found.port != target else None
        endpoint = Endpoint(found.name, found.address, source, port, *found[3:])
        known = taken.get(found.name) or taken.get(at.get((found.address, port), ""))
        if known is None and len(taken) == MAX_ENDPOINTS:
            over.append(found.name)
        elif known is None:
            taken[found.name] = endpoint
            at[found.address, port] = found.name
        elif not kept and known[:2] + known[3:4] != endpoint[:2] + endpoint[3:4]:
            conflicts.append(_conflict(where, endpoint, known))
    complaints = [*refused, *_too_many(sorted({*over}.difference(taken))), *conflicts]
    return Merged(tuple(sorted(taken.values())), tuple(dict.fromkeys(complaints)))


class _Used:
    """The endpoints that were in use before."""

    def __init__(self, xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> None:
        self._xsvc = xsvc
        self._slices = slices

    @cached_property
    def addresses(self) -> dict[str, str]:
        """By name. Seldom needed, and as expensive as the rest of a decision."""
        return {found.name: found.address for _, found in _known(self._xsvc, self._slices)}


def _too_many(names: Sequence[str]) -> Iterator[Complaint]:
    if names:
        yield Complaint(
            "TooManyEndpoints",
            f"spec.endpoints: there are more than {MAX_ENDPOINTS} endpoints; left out are {listed(names)}: narrow "
            "the sources, or divide them among several ExternalServices",
        )


def unknown_drains(xsvc: ExternalService, resolutions: Sequence[Resolution], merged: Merged) -> Sequence[Complaint]:
    """A complaint about each name in `spec.drain` that no endpoint has, with the names that exist.

    No complaints as long as a source has not answered: it may have that endpoint.
    """
    if len(resolutions) < len(xsvc.spec.endpoints or ()) or any(each.endpoints is None for each in resolutions):
        return []
    found = {one.name for each in resolutions for one in each.endpoints or ()}
    names = [each.name for each in merged.endpoints]
    there = f"there are {listed(names)}" if names else "there are none"
    return [
        Complaint(
            "UnknownEndpoint",
            f"spec.drain[{index}].endpoint: there is no endpoint {show(each.endpoint)}; {there}",
            endpoint=each.endpoint,
        )
        for index, each in enumerate(xsvc.spec.drain or ())
        if each.endpoint not in found
    ]


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    if len(names) <= MAX_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:MAX_NAMES])} and {len(names) - MAX_NAMES} more"


def _only_target(spec: ExternalServiceSpec) -> int | None:
    """The port of endpoints without a port of their own; None if the spec has several ports, so that none may have
    one."""
    return (spec.ports[0].target_port or spec.ports[0].port) if len(spec.ports) == 1 else None


def _candidates(
    xsvc: ExternalService, resolutions: Sequence[Resolution], slices: Sequence[EndpointSlice]
) -> Iterator[_Candidate]:
    """Possible endpoints in order of precedence: first those that were found, then those that are kept."""
    sources = xsvc.spec.endpoints or []
    something = False
    for index, resolution in enumerate(resolutions):
        where = f"spec.endpoints[{index}]"
        static = sources[index].addresses if index < len(sources) else None
        for number, found in enumerate(resolution.endpoints or ()):
            something = True
            place = f"{where}.{_place(static, number, found)}" if static else where
            yield _Candidate(place, found, resolution.source, kept=False)
    silent = {
        each.source: f"spec.endpoints[{index}]" for index, each in enumerate(resolutions) if each.endpoints is None
    }
    if not silent and len(resolutions) >= len(sources):
        return
    current = {each.source for each in resolutions}
    unasked = len(resolutions) < len(sources)
    known = list(_known(xsvc, slices))
    theirs = [
        (source, one)
        for source, one in known
        if source in silent or not source or (unasked and source not in current)
    ]
    for source, one in theirs if something or theirs else known:
        name = source or next(iter(silent), "")
        yield _Candidate(silent.get(name, "status.endpoints"), one, name, kept=True)


def _place(static: Sequence[StaticAddress], number: int, found: Found) -> str:
    """`addresses[2].address`, by position, unless the source has left some out."""
    if number < len(static) and static[number].address == found.address:
        return f"addresses[{number}].address"
    fits = (index for index, each in enumerate(static) if found.address == each.address or found.name == each.name)
    return f"addresses[{next(fits, number)}].address"


def _known(xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> Iterator[tuple[str, Found]]:
    """Endpoints that were in use before, with their source, which is "" if unknown."""
    known = set()
    for each in xsvc.status.endpoints or ():
        known.add(each.name)
        yield (
            each.source,
            Found(
                each.name,
                each.address,
                each.port,
                each.weight or 1,
                each.priority or 0,
                bool(each.leaving),
                each.zone or "",
            ),
        )
    for slice_ in slices:
        if not owns(xsvc, slice_.metadata):
            continue
        ports = slice_.ports or []
        port = ports[0].port if len(ports) == 1 else None
        for endpoint in slice_.endpoints or ():
            if endpoint.hostname and endpoint.hostname not in known and endpoint.addresses:
                known.add(endpoint.hostname)
                yield "", Found(endpoint.hostname, endpoint.addresses[0], port)


def _refusal(found: Found, gate: Refusing) -> str | None:
    if not _LABEL.fullmatch(found.name):
        return f"has a name, {show(found.name)}, that is no DNS label; use at most 63 of a-z, 0-9 and -"
    why = gate.refusal(found.address)
    return f"is {why}; endpoints must be outside this cluster" if why else None


_CLAIMED = f"is {EXTERNAL_IP} by now"


def _refused(reason: str, where: str, found: Found, source: str, why: str) -> Complaint:
    named = "" if where.endswith(".address") else f" ({found.name} of {source})"
    return Complaint(reason, f"{where}: {found.address}{named} {why}", source, found.name, found.address)


def _conflict(where: str, endpoint: Endpoint, known: Endpoint) -> Complaint:
    here, there = shown(endpoint.address, endpoint.port), shown(known.address, known.port)
    message = (
        f"{where}: {here} has the name {known.name} of {there}, which is used; give each its own name"
        if endpoint.name == known.name
        else f"{where}: {endpoint.name} is at {here}, as is {known.name}, which is used; leave one out"
    )
    return Complaint("EndpointConflict", message, endpoint.source, endpoint.name, endpoint.address)


def shown(address: str, port: int | None) -> str:
    """`203.0.113.11`, `203.0.113.11:80` or `[2001:db8::11]:80`."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
