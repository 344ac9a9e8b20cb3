"""What one node carries, as plain data. It knows nothing of nftables: another back end could take the same."""

from typing import NamedTuple

import msgspec


class ServiceAddress(NamedTuple):
    """The address, protocol and port that clients connect to; unique on a node."""

    address: str
    """In the canonical text form of RFC 5952 (IPv6) or dotted decimal."""
    protocol: str
    """`tcp` or `udp`."""
    port: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4


class Target(NamedTuple):
    """Where packets are sent: an endpoint's address and port."""

    address: str
    port: int


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """One endpoint that new connections may be sent to."""

    name: str
    """Its identity: the slot table is made from it. Unique within a ServicePort."""
    target: Target
    weight: int = 1
    local: bool = False
    """It runs on this node, so it can be its own client; its source must then be masqueraded."""


class Balanced(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Each new connection goes to any endpoint, by weight: Kubernetes' `sessionAffinity: None`."""

    @property
    def session_seconds(self) -> None:
        """None: no sessions are learned."""
        return None


class ByClientIP(msgspec.Struct, frozen=True, gc=False, tag=True):
    """A client address stays with the endpoint of its last connection: Kubernetes' `sessionAffinity: ClientIP`."""

    timeout_seconds: int
    """How long the session lasts after the client's last new connection: 1 to 86,400 (a day)."""

    @property
    def session_seconds(self) -> int:
        """How long a learned session lasts."""
        return self.timeout_seconds


Affinity = Balanced | ByClientIP
"""How a Service's port chooses an endpoint for a client.

`Moored` will be the third: moorings first, then as `ByClientIP`; it will say how long such a session lasts, and
whether a client whose mooring is not known yet is held or led by the hash. The moorings themselves are units of
their own, not part of it: one that moves must not change its Service's port.
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
    """Targets that get no new connections but keep their flows: terminating, or serving though not ready."""

    @property
    def targets(self) -> frozenset[Target]:
        """Where new connections may be sent."""
        return frozenset(endpoint.target for endpoint in self.endpoints)


UnitKey = ServiceAddress
"""What identifies a unit on its node."""
Unit = ServicePort
"""What comes, changes and goes by itself. A mooring will be one, too, with client and ServiceAddress as its key."""

NodeState = dict[UnitKey, Unit]
"""All that a node carries."""
