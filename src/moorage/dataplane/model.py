"""What one node carries, as plain data: the input of the ruleset."""

from typing import NamedTuple

import msgspec


class Key(NamedTuple):
    """The address that clients connect to; unique on a node."""

    address: str
    """In the canonical text form of RFC 5952 (IPv6) or dotted decimal."""
    protocol: str
    """`tcp` or `udp`."""
    port: int

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4


class Target(NamedTuple):
    """Where packets are sent: an endpoint's address and port."""

    address: str
    port: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint that new connections may be sent to."""

    name: str
    """Its identity: what the slot table is made from. Unique within a ServicePort."""
    target: Target
    weight: int = 1
    local: bool = False
    """It runs on this node, so it can be its own client, and its source must then be masqueraded."""


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of one address of a Service, with everything that decides where its packets go."""

    service: str
    """`namespace/name`."""
    key: Key
    endpoints: tuple[Endpoint, ...] = ()
    """Sorted by name. None: new connections are rejected."""
    affinity_seconds: int = 0
    """How long a client's address stays pinned after its last new connection; 0: not at all."""
    keeps: frozenset[Target] = frozenset()
    """Targets that get no new connections but keep their flows: terminating, or serving though not ready."""

    @property
    def targets(self) -> frozenset[Target]:
        """Where new connections may be sent."""
        return frozenset(endpoint.target for endpoint in self.endpoints)


NodeState = dict[Key, ServicePort]
"""All that a node carries."""
