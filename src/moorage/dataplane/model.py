"""What one node carries, as plain data. It knows nothing about nftables: another back end could use the same."""

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


Affinity = Balanced | ByClientIP
"""How a Service's port chooses an endpoint for a client.

`Moored` will be the third: moorings first, then as `ByClientIP`. It will say how long such a session lasts, and
whether a client whose mooring is not known yet waits or follows the hash. The moorings themselves are units of their
own: moving one must not change its Service's port.
"""


class ServicePort(msgspec.Struct, frozen=True, gc=False):
    """One port of one address of a Service, with everything that decides where its packets go."""

    service: str
    """`namespace/name`."""
    key: ServiceAddress
    endpoints: tuple[Endpoint, ...] = ()
    """Sorted by name. None: new connections are rejected."""
    affinity: Affinity = Balanced()
    keeps: frozenset[Target] = frozenset()
    """Targets that get no new connections but keep their flows: terminating, or serving but not ready."""

    @property
    def targets(self) -> frozenset[Target]:
        """Where new connections may be sent."""
        return frozenset(endpoint.target for endpoint in self.endpoints)


UnitKey = ServiceAddress
"""What identifies a unit on its node."""
Unit = ServicePort
"""Something that comes, changes and goes on its own. A mooring will be one, too, by client and ServiceAddress."""

NodeState = dict[UnitKey, Unit]
"""Everything that a node carries."""
