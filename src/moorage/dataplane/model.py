"""What one node carries, as plain data. It knows nothing about nftables: another back end could use the same."""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec


class ServiceAddress(NamedTuple):
    """The address, protocol and port that clients connect to; unique on a node."""

    address: str
    """In canonical form: RFC 5952 for IPv6, dotted decimal for IPv4."""
    protocol: str
    """`tcp` or `udp`."""
    port: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


class Target(NamedTuple):
    """Where packets go: an endpoint's address and port."""

    address: str
    port: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """An endpoint that may get new connections."""

    name: str
    """Its identity, from which the slot table is made. Unique within a ServicePort."""
    target: Target
    weight: int = 1
    local: bool = False
    """It runs on this node, so it can be its own client; then its source must be masqueraded."""


class Balanced(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Each new connection goes to any endpoint, by weight: Kubernetes' `sessionAffinity: None`."""

    @property
    def session_seconds(self) -> None:
        """None: no sessions are learned."""
        return None


class ByClientIP(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client address stays at the endpoint of its last connection: Kubernetes' `sessionAffinity: ClientIP`."""

    timeout_seconds: int
    """How long the session lasts after the client's last new connection: 1 to 86,400 (a day)."""

    @property
    def session_seconds(self) -> int:
        """How long a learned session lasts."""
        return self.timeout_seconds


class Moored(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client address goes where its `ClientTarget` says; one that has none is treated as with `ByClientIP`."""

    timeout_seconds: int
    """How long the session below lasts, as with `ByClientIP`."""
    holds: bool = False
    """The first TCP connections of a pod whose mooring is not known yet wait for it, for a short time
    (`whilePending: Hold`). UDP never waits: nobody sends it again."""

    @property
    def session_seconds(self) -> int:
        """How long a learned session lasts."""
        return self.timeout_seconds


Affinity = Balanced | ByClientIP | Moored
"""How a Service's port chooses an endpoint for a client."""


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of one address of a Service, with everything that decides where its packets go."""

    service: str
    """`namespace/name`."""
    key: ServiceAddress
    endpoints: tuple[Endpoint, ...] = ()
    """Sorted by name. None: new connections are rejected, or with `ignores` dropped."""
    affinity: Affinity = Balanced()
    keeps: frozenset[Target] = frozenset()
    """Targets that get no new connections but keep their flows: terminating, or serving but not ready."""
    ignores: bool = False
    """There are endpoints, but none for the clients of this node (`internalTrafficPolicy: Local`): as with kube-proxy
    new connections meet silence, and are sent again."""

    @property
    def targets(self) -> frozenset[Target]:
        """Where new connections may be sent."""
        return frozenset(endpoint.target for endpoint in self.endpoints)


class MooringKey(NamedTuple):
    """A client of one port of one address of a Service; unique on a node."""

    client: str
    """The client's address, in canonical form, of the Service's family."""
    service: ServiceAddress

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.service.family


class ClientTarget(msgspec.Struct, frozen=True, gc=False):
    """A mooring, as this node carries it: where one client goes on a port whose affinity is `Moored`.

    It is a unit of its own: to move one client must not change the port of its Service.
    """

    key: MooringKey
    target: Target


class PodPrefixKey(NamedTuple):
    """A range of addresses that this node's pods have; no two of a node overlap."""

    prefix: str
    """In canonical form: `10.244.1.0/24`."""

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.prefix else 4


class PodPrefix(msgspec.Struct, frozen=True, gc=False):
    """A client with an address in it is a pod of this node: only those wait where `Moored.holds` says so."""

    key: PodPrefixKey


UnitKey = ServiceAddress | MooringKey | PodPrefixKey
"""What identifies a unit on its node."""
Unit = ServicePort | ClientTarget | PodPrefix
"""Something that comes, changes and goes on its own."""

NodeState = dict[UnitKey, Unit]
"""Everything that a node carries. Read only: `Mapping[UnitKey, Unit]`."""


def title_of(unit: Unit) -> str:
    """What a person knows the unit by: `Service frontend/backend: 10.96.0.1 tcp 80`."""
    match unit:
        case ServicePort(service=service, key=key):
            return f"Service {service}: {key.address} {key.protocol} {key.port}"
        case ClientTarget(key=key):
            client, (address, protocol, port) = key
            return f"mooring of client {client}: {address} {protocol} {port}"
        case PodPrefix(key=key):
            return f"addresses of pods: {key.prefix}"


def port_of(state: Mapping[UnitKey, Unit | None], key: ServiceAddress) -> ServicePort | None:
    """The port of this address; None if nothing carries it."""
    unit = state.get(key)
    return unit if isinstance(unit, ServicePort) else None


def moored_to(state: Mapping[UnitKey, Unit | None], key: MooringKey) -> Target | None:
    """Where the client is moored; None if it is not."""
    unit = state.get(key)
    return unit.target if isinstance(unit, ClientTarget) else None
