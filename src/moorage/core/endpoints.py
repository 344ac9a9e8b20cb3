"""From what the sources found to the endpoints that are in use."""

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple, Protocol

from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceSpec, StaticAddress
from moorage.api.show import show
from moorage.core.admission import EXTERNAL_IP
from moorage.core.model import Endpoint, Found, Resolution
from moorage.core.ownership import owns

MOST = 1000
"""Endpoints of an ExternalService, as many as one source has. A decision about so many takes some 16 ms, in which the
leader does nothing else, and the status lists them in some 100 KiB; 16,000 took 0.3 s."""
_MOST_LOOKED_AT = 2 * MOST
"""Candidates that are looked at: refused ones do not count as endpoints, and cost time as well."""
NAMED = 3
"""How many of a kind a message names."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


class Refusing(Protocol):
    """What is needed of `core.admission.Gate`."""

    def refusal(self, address: str) -> str | None: ...


class Merged(NamedTuple):
    """The endpoints of all sources of an ExternalService."""

    endpoints: tuple[Endpoint, ...]
    """Sorted by name; no two have the same name, or the same address and port."""
    refused: tuple[str, ...] = ()
    """A sentence for each that the gate did not let through: field, address, why."""
    conflicts: tuple[str, ...] = ()
    """A sentence for each that another one already stands for."""
    too_many: str | None = None
    """A sentence about those that are left out because there are more than `MOST`."""
    left_out: tuple[Found, ...] = ()
    """Those that the gate did not let through."""


class _Candidate(NamedTuple):
    where: str
    """Of the spec: `spec.endpoints[0].dns`."""
    found: Found
    source: str
    kept: bool
    """Known from before: its source has not answered since this process started."""


def merge(
    xsvc: ExternalService,
    resolutions: Sequence[Resolution],
    gate: Refusing,
    slices: Sequence[EndpointSlice] = (),
) -> Merged:
    """The endpoints that `resolutions`, one for each source of the spec, amount to.

    What comes first has a name, or an address and port. Of more than `MOST` those stay that are in use by status and
    `slices`, then those that come first. A source that has not answered yet keeps the endpoints that it had by the
    status, and those in our `slices` that the status does not know (a process may end between the writing of the
    two); where nothing would be left because of it, all endpoints stay. Everything passes the gate, also what is
    kept: it may have become a pod's address since. Only what a Service claims as its external IP does not end an
    endpoint that is in use: whoever writes Services, in whatever namespace, may claim any address.
    """
    target = _only_target(xsvc.spec)
    taken: dict[str, Endpoint] = {}
    at: dict[tuple[str, int | None], str] = {}
    refused: list[str] = []
    conflicts: list[str] = []
    left_out: list[Found] = []
    used = _Used(xsvc, slices)
    candidates = list(_candidates(xsvc, resolutions, slices))
    if len(candidates) > MOST:
        candidates.sort(key=lambda each: each.found.name not in used.addresses)
    over = [each.found.name for each in candidates[_MOST_LOOKED_AT:]]
    for where, found, source, kept in candidates[:_MOST_LOOKED_AT]:
        why = _refusal(found, gate)
        if why and EXTERNAL_IP in why and used.addresses.get(found.name) == found.address:
            conflicts.append(_refused(where, found, source, f"is {EXTERNAL_IP} by now; it stays in use"))
        elif why:
            refused.append(_refused(where, found, source, why))
            left_out.append(found)
            continue
        port = found.port if target is not None and found.port != target else None
        endpoint = Endpoint(found.name, found.address, source, port, *found[3:])
        known = taken.get(found.name) or taken.get(at.get((found.address, port), ""))
        if known is None and len(taken) == MOST:
            over.append(found.name)
        elif known is None:
            taken[found.name] = endpoint
            at[found.address, port] = found.name
        elif not kept and known[:2] + known[3:4] != endpoint[:2] + endpoint[3:4]:
            conflicts.append(_conflict(where, endpoint, known))
    return Merged(
        tuple(sorted(taken.values())),
        tuple(dict.fromkeys(refused)),
        tuple(dict.fromkeys(conflicts)),
        _too_many(sorted({*over}.difference(taken))),
        tuple(left_out),
    )


class _Used:
    """The endpoints that there were before."""

    def __init__(self, xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> None:
        self._xsvc = xsvc
        self._slices = slices

    @cached_property
    def addresses(self) -> dict[str, str]:
        """By name. Asked for seldom: it costs as much as the rest of a decision."""
        return {found.name: found.address for _, found in _known(self._xsvc, self._slices)}


def _too_many(names: Sequence[str]) -> str | None:
    if not names:
        return None
    return (
        f"spec.endpoints: there are more than {MOST} endpoints; left out are {listed(names)}: narrow the sources, or "
        "divide them among several ExternalServices"
    )


def unknown_drains(xsvc: ExternalService, resolutions: Sequence[Resolution], merged: Merged) -> list[str]:
    """A sentence for each name in `spec.drain` that no endpoint has, with those that there are.

    None as long as a source has not answered: the endpoint may be one of its.
    """
    if len(resolutions) < len(xsvc.spec.endpoints or ()) or any(each.endpoints is None for each in resolutions):
        return []
    found = {one.name for each in resolutions for one in each.endpoints or ()}
    names = [each.name for each in merged.endpoints]
    there = f"there are {listed(names)}" if names else "there are none"
    return [
        f"spec.drain[{index}].endpoint: there is no endpoint {show(each.endpoint)}; {there}"
        for index, each in enumerate(xsvc.spec.drain or ())
        if each.endpoint not in found
    ]


def listed(names: Sequence[str]) -> str:
    """`a, b, c and 4 more`."""
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _only_target(spec: ExternalServiceSpec) -> int | None:
    """The port that endpoints have unless they say another; None where there are several, so that none can."""
    return (spec.ports[0].target_port or spec.ports[0].port) if len(spec.ports) == 1 else None


def _candidates(
    xsvc: ExternalService, resolutions: Sequence[Resolution], slices: Sequence[EndpointSlice]
) -> Iterator[_Candidate]:
    """What there may be, in order of precedence: what was found, then what is kept."""
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
    """`addresses[2].address`, by position unless the source left some out."""
    if number < len(static) and static[number].address == found.address:
        return f"addresses[{number}].address"
    fits = (index for index, each in enumerate(static) if found.address == each.address or found.name == each.name)
    return f"addresses[{next(fits, number)}].address"


def _known(xsvc: ExternalService, slices: Sequence[EndpointSlice]) -> Iterator[tuple[str, Found]]:
    """What there was, with its source; "" where that is not known."""
    known = set()
    for each in xsvc.status.endpoints or ():
        known.add(each.name)
        yield (
            each.source,
            Found(each.name, each.address, each.port, each.weight or 1, each.priority or 0, bool(each.leaving)),
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


def _refused(where: str, found: Found, source: str, why: str) -> str:
    named = "" if where.endswith(".address") else f" ({found.name} of {source})"
    return f"{where}: {found.address}{named} {why}"


def _conflict(where: str, endpoint: Endpoint, known: Endpoint) -> str:
    here, there = shown(endpoint.address, endpoint.port), shown(known.address, known.port)
    if endpoint.name == known.name:
        return f"{where}: {here} has the name {known.name} of {there}, which is used; give each its own name"
    return f"{where}: {endpoint.name} is at {here}, as is {known.name}, which is used; leave one out"


def shown(address: str, port: int | None) -> str:
    """`203.0.113.11`, `203.0.113.11:80` or `[2001:db8::11]:80`."""
    if port is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
