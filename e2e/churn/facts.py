"""What a history comes to: who was where and when, and when whom could not be blamed. Pure."""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any, NamedTuple

from e2e.churn import history
from e2e.churn.history import AnyRecord
from e2e.churn.spans import Spans, Timeline

RESETTING = ("Moved", "Drained", "Returned")
"""Moves from an endpoint that may well serve. They end the client's connections there."""

Found = Iterator[tuple[float, str]]
"""What breaks a rule: when it was, and in words."""


_NEVER = Spans()


class Bounds(NamedTuple):
    """Seconds. Where somebody was down, or the machine stood still, that time is not counted."""

    health: float = 6.0
    """From the end of an endpoint to slices without it: checks each second, three of which fail, and the writes."""
    follow: float = 2.0
    """From what is in the API to what all kernels do."""
    seen: float = 1.0
    """From a write to the API until this history has it."""
    decide: float = 2.0
    """From what the operator knows to what it has written: it writes for a second, and then decides again."""
    resume: float = 4.0
    """From the start of an agent or a leader until it does its work."""
    grace: float = 300.0
    """For how long the Mooring of a client that is gone is kept."""


class Connection(NamedTuple):
    """One that an endpoint has answered."""

    id: str
    pod: str
    worker: str
    service: str
    start: float
    answered: float
    endpoint: str
    open: float
    """When it was last known to be open."""
    ended: float | None
    """None: not known."""
    how: str
    """`closed` by its client, or in what way it was broken; empty: not known."""

    @property
    def broken(self) -> bool:
        return self.ended is not None and self.how != "closed"


class Move(NamedTuple):
    """What the operator has recorded in a Mooring: a client has come to an endpoint."""

    at: float
    service: str
    client: str
    previous: str
    """Where the history had it before; empty: nowhere."""
    endpoint: str
    record: history.Mooring

    def __str__(self) -> str:
        way = f"from {self.previous} to {self.endpoint}" if self.previous else f"to {self.endpoint}"
        return f"{self.client} of {self.service} {way} ({self.record.reason or 'no reason'})"


def _first(wanted: Iterable[str], serving: Collection[str]) -> str:
    return next((each for each in wanted if each in serving), "")


class Facts:
    """Everything by name, ready to be asked about any moment."""

    def __init__(self, records: Iterable[AnyRecord], bounds: Bounds = Bounds()) -> None:  # noqa: B008
        self.bounds = bounds
        self.nodes: list[str] = []
        self.kinds: dict[str, str] = {}
        self.by_kube_proxy: set[str] = set()
        """Services that node agents do not carry."""
        self.edits: list[history.Edit] = []
        self.specs: dict[str, Timeline[history.Spec | None]] = defaultdict(lambda: Timeline(None))
        self.slices: dict[str, Timeline[history.Slices | None]] = defaultdict(lambda: Timeline(None))
        self.pods: dict[str, Timeline[history.Pod | None]] = defaultdict(lambda: Timeline(None))
        self.moored: dict[tuple[str, str], Timeline[history.Mooring | None]] = defaultdict(lambda: Timeline(None))
        self.moves: list[Move] = []
        self.presence: dict[str, Timeline[bool]] = defaultdict(lambda: Timeline(False))
        """Whether a pod of a name counts as a client."""
        self.failed: list[history.Failed] = []
        self.kernels: list[history.Kernel] = []
        self._resets: dict[tuple[str, str], list[Move]] = defaultdict(list)
        self._present: dict[str, set[str]] = defaultdict(set)
        self._down: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        self._stalls: list[tuple[float, float]] = []
        self._connections: dict[str, Connection] = {}
        self.end = 0.0
        """Of the history: what should have happened later is not known."""
        for record in sorted(records, key=lambda each: each.at):
            self._take(record)
            self.end = record.at
        self.connections = list(self._connections.values())
        self._spans = {key: Spans(spans) for key, spans in self._down.items()}
        stalls = Spans(self._stalls)
        everybody = self._resumed("api") | stalls
        self._undelivered = self.down("api") | stalls
        self.busy_operator = self._resumed("operator") | everybody
        """When nobody could decide and write."""
        self._busy_agents = defaultdict(
            lambda: everybody, {node: self._resumed("agent", node) | everybody for node in self.nodes}
        )

    def _take(self, record: AnyRecord) -> None:
        match record:
            case history.Run():
                self.nodes = record.nodes
            case history.Down():
                self._down[record.what, record.name].append((record.at, math.inf))
            case history.Up():
                since, _ = self._down[record.what, record.name][-1]
                self._down[record.what, record.name][-1] = (since, record.at)
            case history.Edit():
                self.edits.append(record)
            case history.Stall():
                self._stalls.append((record.start, record.at))
            case history.Spec():
                self.kinds[record.service] = record.kind
                if record.proxy == "kube-proxy":
                    self.by_kube_proxy.add(record.service)
                self.specs[record.service].add(record.at, record)
            case history.Slices():
                self.slices[record.service].add(record.at, record)
            case history.Pod():
                self._take_pod(record)
            case history.Mooring():
                self._take_mooring(record)
            case history.Failed():
                self.failed.append(record)
            case history.Kernel():
                self.kernels.append(record)
            case history.Connected():
                self._connections[record.id] = Connection(
                    record.id, record.pod, record.worker, record.service, record.start, record.at, record.endpoint,
                    record.at, None, "",
                )  # fmt: skip
            case history.Open() if record.id in self._connections:
                self._connections[record.id] = self._connections[record.id]._replace(open=record.at)
            case history.Ended() if record.id in self._connections:
                self._connections[record.id] = self._connections[record.id]._replace(
                    ended=record.at, how=record.how, open=record.at
                )

    def _take_pod(self, record: history.Pod) -> None:
        self.pods[record.uid].add(record.at, record)
        present = self._present[record.name]
        if record.life == "present":
            present.add(record.uid)
        else:
            present.discard(record.uid)
        self.presence[record.name].add(record.at, bool(present))

    def _take_mooring(self, record: history.Mooring) -> None:
        life = self.moored[record.service, record.client]
        before = life.last
        life.add(record.at, None if record.gone else record)
        previous = before.endpoint if before else ""
        if record.gone:
            return
        move = Move(record.at, record.service, record.client, previous, record.endpoint, record)
        if record.endpoint != previous:
            self.moves.append(move)
            if previous and record.reason in RESETTING and not self._is_followed(move):
                self._note_reset(move)
        elif before:
            # A person has edited it, or the operator has refused that: agents follow at once.
            serving = self.serving(record.service, record.at)
            former, latter = (_first(self._wanted(each), serving) for each in (before, record))
            if former != latter:
                self._note_reset(move._replace(previous=former, endpoint=latter))

    def _note_reset(self, move: Move) -> None:
        if move.service not in self.by_kube_proxy:  # which moves no connection that is open
            self._resets[move.service, move.client].append(move)

    def _is_followed(self, move: Move) -> bool:
        """Whether agents have done what the operator records, because a person had asked for it."""
        resets = self._resets[move.service, move.client]
        return bool(
            resets
            and move.record.reason == "Moved"
            and (resets[-1].previous, resets[-1].endpoint) == (move.previous, move.endpoint)
        )

    # --- Who could not be blamed ---------------------------------------------------------------------------------

    def every_down(self) -> list[str]:
        """What was down, each time that it was."""
        return [what for (what, _), spans in self._down.items() for _ in spans]

    def down(self, what: str, name: str = "") -> Spans:
        return self._spans.get((what, name), _NEVER)

    def busy_agent(self, node: str) -> Spans:
        """When the agent of a node could not follow."""
        return self._busy_agents[node]

    def _resumed(self, what: str, name: str = "") -> Spans:
        """With the time that it takes to resume: who tries again waits twice as long each time."""
        return Spans(
            (since, until + max(self.bounds.resume, until - since if what == "api" and until < math.inf else 0.0))
            for since, until in self.down(what, name).spans
        )

    def seen(self, moment: float) -> float:
        """Until when the history has what was in the API by then."""
        return self._undelivered.later(moment, self.bounds.seen)

    # --- Clients -------------------------------------------------------------------------------------------------

    def pod(self, uid: str) -> history.Pod | None:
        """What was last known of it."""
        return self.pods[uid].last if uid in self.pods else None

    def client(self, service: str, pod: history.Pod) -> str:
        return f"Pod/{pod.name}" if self.kinds[service] == "Pod" else f"Node/{pod.node}"

    def present(self, client: str, moment: float) -> bool:
        """Whether a client counts as one. Nodes always do."""
        kind, _, name = client.partition("/")
        return kind != "Pod" or self.presence[name].at(moment)

    def endpoint(self, service: str, client: str, moment: float) -> str:
        """Where a client is moored."""
        mooring = self.moored[service, client].at(moment) if (service, client) in self.moored else None
        return (mooring.endpoint or mooring.requested) if mooring else ""

    def serving(self, service: str, moment: float) -> frozenset[str]:
        found = self.slices[service].at(moment)
        return frozenset(found.serving) if found else frozenset()

    def taking(self, service: str, moment: float) -> frozenset[str]:
        found = self.specs[service].at(moment)
        return frozenset(found.taking) - {*found.drained} if found else frozenset()

    def led(self, service: str, uid: str, moment: float) -> str:
        """The endpoint to which a pod's connections are to go; empty: nobody says."""
        pod = self.pods[uid].at(moment)
        if pod is None or not pod.node or (self.kinds[service] == "Pod" and not pod.address):
            return ""
        return self.led_to(service, self.client(service, pod), moment)

    def led_to(self, service: str, client: str, moment: float) -> str:
        """The endpoint to which a client's connections are to go; empty: nobody says."""
        mooring = self.moored[service, client].at(moment) if (service, client) in self.moored else None
        return _first(self._wanted(mooring), self.serving(service, moment)) if mooring else ""

    def _wanted(self, mooring: history.Mooring) -> tuple[str, ...]:
        """Where a client is led, the best first. Agents go by what a person wants, hints by what is recorded."""
        requested, recorded = mooring.requested, mooring.endpoint
        if recorded in ("", requested):
            return (requested,)
        only_recorded = mooring.refused or mooring.service in self.by_kube_proxy
        return (recorded,) if only_recorded else (requested, recorded)

    def moments(self, since: float, until: float, *timelines: Timeline[Any]) -> list[float]:
        """`since`, and when one of them changes until `until`."""
        return [since, *(moment for each in timelines for moment in each.changes(since, until) if moment > since)]

    def in_force(self, service: str, uid: str, since: float, until: float) -> set[str]:
        """All that `led` says between these times."""
        pod = self.pod(uid)
        timelines: list[Timeline[Any]] = [self.slices[service], self.pods[uid]]
        if pod and (mooring := self.moored.get((service, self.client(service, pod)))):
            timelines.append(mooring)
        return {self.led(service, uid, moment) for moment in self.moments(since, until, *timelines)}

    def served(self, service: str, since: float, until: float) -> Iterator[frozenset[str]]:
        """What served, at each moment between these times."""
        for found in self.slices[service].within(since, until):
            yield frozenset(found.serving) if found else frozenset()

    def was_lost(self, service: str, endpoint: str, since: float, until: float) -> bool:
        """Whether an endpoint was down between these times, or did not serve."""
        return self.down("endpoint", endpoint).touch(since, until) or any(
            endpoint not in each for each in self.served(service, since, self.seen(until))
        )

    def names(self, service: str) -> list[str]:
        """All endpoints that it ever had."""
        specs = self.specs[service].within(-math.inf, math.inf)
        return sorted({name for spec in specs if spec for name in spec.weights})

    def resets(self, service: str, uid: str) -> list[Move]:
        """The moves of a pod's client that break connections."""
        pod = self.pod(uid)
        return self._resets[service, self.client(service, pod)] if pod else []
