"""A history of a churn run in which every promise is kept, a few words at a time."""

import itertools
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from e2e.churn.history import (
    AnyRecord,
    Connected,
    Down,
    Edit,
    Ended,
    Failed,
    Kernel,
    Mooring,
    Open,
    Pod,
    Run,
    Slices,
    Spec,
    Up,
)

SERVICE = "backend"
NODES = ("n1", "n2")
FAILING_SECONDS = 4.0
"""From the end of an endpoint until the operator knows."""


class Churned:
    """Pods `c0`, `c1`, ... of one ExternalService on two nodes. `now` goes on with each method."""

    def __init__(self, clients: int = 4, endpoints: Sequence[str] = ("e1", "e2", "e3")) -> None:
        self.now = 1000.0
        self.records: list[AnyRecord] = []
        self.pods: dict[str, Pod] = {}
        self.moorings: dict[str, Mooring] = {}
        self.held: dict[str, tuple[str, str]] = {}
        """Id of a connection that is open -> its client and its endpoint."""
        self.alive, self.serving = set(endpoints), set[str]()
        self._numbers = itertools.count(1)
        self.spec = Spec(at=0, service=SERVICE, kind="Pod", weights=dict.fromkeys(endpoints, 1))
        self.add(Run(at=0, seed=1, nodes=[*NODES]))
        self.add(self.spec)
        self._publish(endpoints)
        for number in range(clients):
            self.start(f"c{number}", NODES[number % 2])
        self.later(20)
        self.quiet()

    def later(self, seconds: float) -> None:
        self.now += seconds

    def add(self, record: AnyRecord) -> None:
        """As of now."""
        self.records.append(replace(record, at=self.now))

    # --- Clients -------------------------------------------------------------------------------------------------

    def start(self, client: str, node: str) -> None:
        """Its pod is made, and has an address."""
        pod = self.appear(client, node)
        if client not in self.moorings:
            self.moor(client, self.least(), "Assigned")
        self.later(0.5)
        self.pods[client] = replace(pod, address=f"10.0.0.{next(self._numbers)}")
        self.add(self.pods[client])
        self.later(3)

    def appear(self, client: str, node: str) -> Pod:
        """Its pod is made, and has no address yet."""
        pod = Pod(at=0, uid=f"{client}-{next(self._numbers)}", name=client, node=node)
        self.add(pod)
        return pod

    def restart(self, client: str, node: str) -> None:
        """Its pod goes, and comes back on a node."""
        pod = self.pods[client]
        self.add(replace(pod, life="ending"))
        for id in [id for id, (who, _) in self.held.items() if who == client]:
            del self.held[id]
        self.later(1)
        self.add(replace(pod, life="gone"))
        self.start(client, node)

    def connect(self, client: str, endpoint: str | None = None, worker: str = "short", took: float = 0.01) -> str:
        """A connection is made, to where its client is moored if nobody says otherwise; its id."""
        id, start = f"id{next(self._numbers)}", self.now
        self.later(took)
        at = endpoint or self.moorings[client].endpoint
        uid = self.pods[client].uid
        self.add(Connected(at=0, id=id, pod=uid, worker=worker, service=SERVICE, start=start, endpoint=at))
        self.held[id] = client, at
        return id

    def end(self, id: str, how: str = "closed") -> None:
        self.held.pop(id, None)
        self.add(Ended(at=0, id=id, how=how))

    def look(self) -> None:
        """Whatever is held is answered."""
        for id in self.held:
            self.add(Open(at=0, id=id))

    def fail(self, client: str, error: str = "refused") -> None:
        """A connection is not made."""
        uid = self.pods[client].uid
        self.add(Failed(at=0, pod=uid, worker="short", service=SERVICE, start=self.now - 0.01, error=error))

    # --- Who decides ---------------------------------------------------------------------------------------------

    def least(self) -> str:
        """The endpoint for a new client."""
        loads = dict.fromkeys(sorted(self.serving - {*self.spec.drained}), 0)
        for each in self.moorings.values():
            if each.endpoint in loads:
                loads[each.endpoint] += 1
        return min(loads, key=lambda name: loads[name] / self.spec.weights[name])

    def moor(self, client: str, endpoint: str, reason: str, **fields: str) -> None:
        before = self.moorings.get(client)
        mooring = Mooring(
            at=0,
            service=SERVICE,
            client=f"Pod/{client}",
            requested=endpoint,
            endpoint=endpoint,
            reason=reason,
            previous=before.endpoint if before else "",
            home=before.home if before else endpoint,
        )
        self.moorings[client] = replace(mooring, **fields)
        self.add(self.moorings[client])
        self.later(0.01)

    def move(self, client: str, endpoint: str, reason: str, after: float = 0.1, **fields: str) -> None:
        """And so many seconds later what is open at the former endpoint is reset."""
        former = self.moorings[client].endpoint
        self.moor(client, endpoint, reason, **fields)
        self.later(after)
        for id in [id for id, held in self.held.items() if held == (client, former)]:
            self.end(id, "reset")

    def edit(self, client: str, endpoint: str, after: float = 0.1) -> None:
        if endpoint == self.moorings[client].endpoint or endpoint not in self.serving - {*self.spec.drained}:
            return
        self.ask(client, endpoint)
        self.later(0.05)
        self.move(client, endpoint, "Moved", after, home=endpoint)

    def ask(self, client: str, endpoint: str) -> None:
        """A person edits a Mooring, and nobody has recorded it yet."""
        self.add(Edit(at=0, service=SERVICE, client=f"Pod/{client}", endpoint=endpoint))
        self.moorings[client] = replace(self.moorings[client], requested=endpoint)
        self.add(self.moorings[client])

    def refuse(self, client: str) -> None:
        """The operator does not do what was asked for."""
        self.moorings[client] = replace(self.moorings[client], refused=True)
        self.add(self.moorings[client])

    # --- Endpoints -----------------------------------------------------------------------------------------------

    def kill(self, endpoint: str) -> None:
        """It fails, its clients move, and then it serves no more."""
        if endpoint not in self.alive or len(self.serving - {*self.spec.drained}) < 2:
            return
        self.alive.discard(endpoint)
        self.add(Down(at=0, what="endpoint", name=endpoint))
        for id in [id for id, (_, at) in self.held.items() if at == endpoint]:
            self.end(id, "reset")
        self.later(FAILING_SECONDS)
        self._lose(endpoint)

    def revive(self, endpoint: str) -> None:
        if endpoint in self.alive:
            return
        self.alive.add(endpoint)
        self.add(Up(at=0, what="endpoint", name=endpoint))
        self.later(1.2)
        if endpoint in self.spec.weights:
            self._publish(self.serving | {endpoint})

    def remove(self, endpoint: str) -> None:
        """From the spec."""
        if endpoint not in self.spec.weights or len(self.serving - {*self.spec.drained, endpoint}) < 1:
            return
        weights = {name: weight for name, weight in self.spec.weights.items() if name != endpoint}
        self.spec = replace(self.spec, weights=weights)
        self.add(self.spec)
        self.later(0.05)
        self._lose(endpoint)
        for id in [id for id, (_, at) in self.held.items() if at == endpoint]:
            self.end(id, "reset")

    def restore(self, endpoint: str) -> None:
        """To the spec."""
        if endpoint in self.spec.weights:
            return
        self.spec = replace(self.spec, weights={**self.spec.weights, endpoint: 1})
        self.add(self.spec)
        self.later(1)
        if endpoint in self.alive:
            self._publish(self.serving | {endpoint})

    def drain(self, endpoint: str) -> None:
        """Its clients leave one after the other."""
        if endpoint not in self.serving or len(self.serving - {*self.spec.drained}) < 2:
            return
        self.spec = replace(self.spec, drained=[*self.spec.drained, endpoint])
        self._publish(self.serving)
        for client, mooring in list(self.moorings.items()):
            if mooring.endpoint == endpoint:
                self.later(1)
                self.move(client, self.least(), "Drained")

    def _lose(self, endpoint: str) -> None:
        if endpoint not in self.serving:
            return
        self.serving.discard(endpoint)
        for client, mooring in list(self.moorings.items()):
            if mooring.endpoint == endpoint:
                self.moor(client, self.least(), "FailedOver")
        self._publish(self.serving)

    def _publish(self, serving: Iterable[str]) -> None:
        self.serving = set(serving)
        names = sorted(self.serving)
        self.spec = replace(self.spec, taking=names)
        self.add(Slices(at=0, service=SERVICE, serving=names, ready=names))
        self.later(0.01)
        self.add(self.spec)

    # --- Kernels -------------------------------------------------------------------------------------------------

    def quiet(self, misses: int = 0) -> None:
        """Nothing happens for a while, and then all kernels are looked into."""
        self.later(10)
        for node in NODES:
            self.add(self.kernel(node, misses))

    def kernel(self, node: str, misses: int = 0) -> Kernel:
        """As it should be."""
        elements = {
            pod.address: self.moorings[client].endpoint
            for client, pod in self.pods.items()
            if pod.node == node and self.moorings[client].endpoint in self.serving
        }
        moorings, ready = {SERVICE: elements}, {SERVICE: sorted(self.serving)}
        return Kernel(at=0, node=node, misses=misses, moorings=moorings, ready=ready)
