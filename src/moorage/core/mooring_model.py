"""The plain data of moorings: clients, the members and endpoints of a group, and what is decided about a group."""

import hashlib
from collections.abc import Container, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from moorage.api.core_v1 import LocalObjectReference
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import MooringConfig
from moorage.core.model import Complaint, Write

Reason = Literal["Assigned", "FailedOver", "Drained", "Returned", "Moved"]
"""Why a client is where it is."""

GRACE_SECONDS = 300.0
"""Absences that are shorter cost no client its endpoint."""


class ClientKey(NamedTuple):
    """A client by its identity, which stays when its address changes."""

    kind: str
    """One of `CLIENT_KINDS`."""
    name: str
    """Of a pod, node, zone or namespace its name; of a workload `Deployment/frontend`; of a label its value."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def hash_of(group: str, client: ClientKey) -> int:
    """A number that is the same in every process, and different for most clients and groups."""
    text = "\0".join((group, client.kind, client.name))
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


class Client(NamedTuple):
    """A client that exists."""

    key: ClientKey
    owner: str = ""
    """What made it, such as `StatefulSet/db`: clients of one owner are spread. Empty: nothing did."""
    zone: str = ""
    """Of a Node; empty where it is not known."""
    subject: LocalObjectReference | None = None
    """The object that Events about it belong to; None: the ExternalService."""


class Clients(NamedTuple):
    """Who the clients of a group are at one moment."""

    present: Mapping[ClientKey, Client] = MappingProxyType({})
    """Whoever exists and has not finished. They are the load of the endpoints."""
    expected: Container[ClientKey] = frozenset()
    """Whoever has a mooring to come back to: pods that their StatefulSet will make again, workloads without pods."""

    def absent(self, key: ClientKey) -> bool:
        """Whether the client is neither present nor expected."""
        return key not in self.present and key not in self.expected


class Drained(NamedTuple):
    """That an endpoint is being taken out of use."""

    since: str | None
    """RFC 3339: when the drain was first seen, as the status has recorded it; None: it begins now. A time that is not
    recorded would be another one at each look, and each look would find that the member has changed."""
    before: str | None
    """RFC 3339: by when the last client has been moved; None: clients stay."""


class MemberEndpoint(NamedTuple):
    """An endpoint as one ExternalService of the group sees it."""

    name: str
    takes: bool
    """It takes new clients: it is ready by its checks, not drained, and of the SRV priority in use."""
    keeps: bool
    """Its clients stay: it serves, also while it is drained, leaving, or of a lower priority."""
    weight: int = 1
    zone: str = ""
    drained: Drained | None = None
    doubted: bool = False
    """An earlier leader found it healthy, and no check of this one has passed yet."""


class Member(NamedTuple):
    """An ExternalService of a group."""

    key: ObjectKey
    created: str
    """RFC 3339. Of members that disagree about `config` the oldest is right, and the first by name of those."""
    config: MooringConfig
    by_kube_proxy: bool
    """Who carries it has no agent: at most `MAX_HINTS` nodes or zones an endpoint."""
    counts: bool
    """Its sources have answered, its slices are published, and it is neither suspended, refused nor going."""
    panic_threshold_percent: int
    endpoints: tuple[MemberEndpoint, ...]
    """By name."""
    panic: bool = False
    """It doubts its checks: too few of its endpoints pass them."""
    previous_group: str = ""
    """The group that it was in before, as long as its Service says so; empty: none, or the same."""
    awaited_seconds: float = 0.0
    """How long clients of endpoints that are gone wait at most, so that they are spread over endpoints that are about
    to take clients, too, and come to none that has died; 0: nothing is to be found out, or the time is over."""
    beginning: bool = False
    """It has just begun to count: new clients wait as well."""


class Move(NamedTuple):
    """A client that has come to an endpoint, for an Event."""

    client: Client
    endpoint: str
    previous: str
    """Empty: it is new."""
    reason: Reason
    why: str
    """The cause, as a clause: `backend1 fails its checks`."""


class Moored(NamedTuple):
    """Where the clients of a group are: what slices and conditions of its members are made from."""

    kind: str
    """What counts as one client."""
    at: Mapping[str, tuple[str, ...]]
    """Name of an endpoint -> names of the clients moored to it, in order; endpoints without clients are left out."""
    problems: tuple[Complaint, ...] = ()
    """What keeps clients from being moored, or from being moored where a person wants them."""
    pending: str = ""
    """Why there are clients that are not assigned yet, as a sentence; empty: nobody waits."""


class GroupDecision(NamedTuple):
    """What to do about the moorings of one group."""

    writes: tuple[Write, ...]
    """Of Moorings, the most urgent first. They do not depend on each other: one that fails does not end the rest."""
    moves: tuple[Move, ...]
    """One for each write that moves a client; these writes come first, in the same order."""
    moored: Moored
    """As it is once all is written."""
    again_seconds: float | None
    """After how long to decide again though nothing has changed: a drain goes on, or a grace period ends."""

    def without(self, done: Container[int]) -> "GroupDecision":
        """The same once some of `writes` have been done, which are named by their places."""
        return self._replace(
            writes=tuple(each for number, each in enumerate(self.writes) if number not in done),
            moves=tuple(each for number, each in enumerate(self.moves) if number not in done),
        )
