"""Groups of ExternalServices in few words, and one whose moorings are decided and written over time."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from msgspec.structs import replace

from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring, MooringClient, MooringSpec
from moorage.core.assignment import decide_group
from moorage.core.model import Write
from moorage.core.mooring_model import (
    Client,
    ClientKey,
    Drained,
    GroupDecision,
    Member,
    MemberEndpoint,
)
from moorage.core.moorings import client_of
from moorage.core.roster import Roster
from moorage.core.snapshot import GroupSnapshot
from testing.xsvc import NAME, NAMESPACE, Cluster, RefusedError

KEY = ObjectKey(NAMESPACE, NAME)
START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> str:
    """RFC 3339, in whole seconds, so long after `START`."""
    return (START + timedelta(seconds=int(seconds))).strftime("%Y-%m-%dT%H:%M:%SZ")


def end(name: str, *, serves: bool = True, **fields: Any) -> MemberEndpoint:
    """An endpoint; `serves`: whether it takes and keeps clients, unless `fields` say otherwise."""
    return MemberEndpoint(**{"name": name, "takes": serves, "keeps": serves, **fields})


def drained(name: str, since: float, before: float | None = None, **fields: Any) -> MemberEndpoint:
    """One that is drained: by when, and since when, in seconds."""
    drain = Drained(at(since), None if before is None else at(before))
    return end(name, **{"takes": False, "drained": drain, **fields})


def member(*endpoints: MemberEndpoint, name: str = NAME, **fields: Any) -> Member:
    """An ExternalService that counts, whose node agents carry moorings."""
    config = {each: fields.pop(each) for each in ("client", "on_recovery", "while_pending") if each in fields}
    given = {
        "key": ObjectKey(NAMESPACE, name),
        "created": at(0),
        "config": MooringConfig(**config),
        "by_kube_proxy": False,
        "counts": True,
        "panic_threshold_percent": 0,
        "endpoints": tuple(sorted(endpoints)),
        **fields,
    }
    return Member(**given)


def clients(*names: str, kind: str = "Pod", owner: str = "", zone: str = "") -> dict[ClientKey, Client]:
    """Present ones."""
    keys = [ClientKey(kind, name) for name in names]
    return {key: Client(key, owner, zone) for key in keys}


def mooring(name: str, endpoint: str, kind: str = "Pod", object_name: str | None = None) -> Mooring:
    """As a person makes one."""
    return Mooring(
        api_version="moorage.dev/v1alpha1",
        kind="Mooring",
        metadata=ObjectMeta(name=object_name or f"by-hand.{kind.lower()}.{name}", namespace=NAMESPACE),
        spec=MooringSpec(group=NAME, client=MooringClient(kind=kind, name=name), endpoint=endpoint),
    )


class GroupStory:
    """One group over time: `step` decides and writes, `now` is in seconds after `START`."""

    def __init__(self, *members: Member, present: Mapping[ClientKey, Client] | None = None) -> None:
        self.cluster = Cluster()
        self.members: list[Member] = list(members)
        self.present: dict[ClientKey, Client] = dict(present or {})
        self.expected: set[ClientKey] = set()
        self.past: list[Mooring] = []
        self.now = 0
        self._absent: dict[ClientKey, str] = {}

    @property
    def moorings(self) -> list[Mooring]:
        raw = [each for (kind, _), each in sorted(self.cluster.objects.items()) if kind == "Mooring"]
        return [msgspec.convert(each, Mooring) for each in raw]

    def of(self, name: str) -> Mooring:
        """The Mooring of the client of this name."""
        return next(each for each in self.moorings if each.spec.client.name == name)

    def where(self) -> dict[str, str | None]:
        """Name of a client -> where the record has it."""
        return {each.spec.client.name: each.status.endpoint for each in self.moorings}

    def snapshot(self, moorings: Sequence[Mooring] | None = None) -> GroupSnapshot:
        """What there is now; the leader remembers since when clients are absent."""
        found = self.moorings if moorings is None else moorings
        keys = {client_of(each) for each in found}
        gone = {key for key in keys if key not in self.present and key not in self.expected}
        self._absent = {key: self._absent.get(key, at(self.now)) for key in gone}
        return GroupSnapshot(
            key=KEY,
            members=tuple(self.members),
            roster=Roster.of(self.present, found),
            expected=frozenset(self.expected),
            absent=dict(self._absent),
            now=at(self.now),
            past=tuple(self.past),
        )

    def lead_anew(self) -> None:
        """Another leader knows of no absence."""
        self._absent = {}

    def decide(self) -> GroupDecision:
        return decide_group(self.snapshot())

    def do(self, writes: Iterable[Write]) -> int:
        """How many of them were refused: they were decided from another state than there is."""
        refused = 0
        for write in writes:
            try:
                self.cluster.do(write)
            except RefusedError:
                refused += 1
        return refused

    def step(self, seconds: int = 0) -> GroupDecision:
        """Decide so much later, and write it; the decision."""
        self.now += seconds
        decision = self.decide()
        assert self.do(decision.writes) == 0
        return decision

    def set(self, *members: Member) -> None:
        """Replace those of the same names."""
        named = {each.key: each for each in (*self.members, *members)}
        self.members = list(named.values())

    def edit(self, client: str, endpoint: str) -> None:
        """Somebody moves a client."""
        name = self.of(client).metadata.name
        self.cluster.edit("Mooring", name, {"spec": {"endpoint": endpoint}})

    def make(self, obj: Mooring) -> None:
        """Somebody makes a Mooring."""
        self.cluster.put(obj)


def reasons(decision: GroupDecision) -> dict[str, str]:
    """Name of each client that moves -> why."""
    return {each.client.key.name: each.reason for each in decision.moves}


def recorded(mooring: Mooring, **fields: Any) -> Mooring:
    """The same with another record."""
    return replace(mooring, status=replace(mooring.status, **fields))
