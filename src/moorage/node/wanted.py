"""Decides what this node should carry, from what the agent knows."""

from collections.abc import Iterable

from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import KINDS_OF_NODES
from moorage.core.mooring_model import ClientKey
from moorage.dataplane.desired import Desired
from moorage.dataplane.model import NodeState, PodPrefix, UnitKey, port_of
from moorage.dataplane.services import At, Carried, carried, moored_by
from moorage.node.moorings import GroupClient, Led, PodMoorings, at, led
from moorage.node.warned import Warned
from moorage.node.world import PodsOf, Subject, World


class Wanted:
    """The state that the kernel should have.

    A fault in one object, and a bug in the decision about it, affects no others: its last good state stays in use.
    """

    def __init__(self, world: World, warned: Warned) -> None:
        self._world = world
        self._warned = warned
        self._desired = Desired()
        self._pods: dict[str, dict[ObjectKey, PodMoorings]] = {}
        """Namespace -> its Services whose clients are pods; namespaces without one are left out."""
        self._nodes: set[ObjectKey] = set()
        """Services whose clients are nodes or zones."""

    @property
    def state(self) -> NodeState:
        return self._desired.state

    def decide(self, dirty: Iterable[Subject]) -> set[UnitKey]:
        """Look at these again; returns the keys of what has changed."""
        changed: set[UnitKey] = set()
        namespaces: dict[str, None] = {}
        contested = set(self._desired.contested)
        for subject in dirty:
            if isinstance(subject, PodsOf):
                namespaces[subject.namespace] = None
                continue
            try:
                changed |= self._decide_service(subject, namespaces)
            except Exception as error:
                self._warned.mistake(f"Service {subject}", error)
        if contested != self._desired.contested or not changed.isdisjoint(contested):
            namespaces |= dict.fromkeys(self._pods)  # whose ports are whose may have changed
        self._world.clientele.want(self._pods, self._world.scope.zone if self._nodes else None)
        for namespace in namespaces:
            try:
                changed |= self._decide_pods(namespace)
            except Exception as error:
                self._warned.mistake(f"Pods of {namespace}", error)
        changed |= self._desired.prefixes(map(PodPrefix, self._world.prefixes if self._pods else ()))
        self._warned.put("conflicts", self._desired.conflicts())
        return changed

    # --- Services ------------------------------------------------------------------------------------------------

    def _decide_service(self, key: ObjectKey, namespaces: dict[str, None]) -> set[UnitKey]:
        """`namespaces` gets that of the Service if its pods are to be looked at for that."""
        name, result = str(key), self._carried(key)
        changed: set[UnitKey] = {*self._desired.put(name, result.ports)}
        self._warned.put(f"Service {name}", result.warnings)
        by = result.moored
        if by and by.client in KINDS_OF_NODES:
            self._nodes.add(key)
        else:
            self._nodes.discard(key)
        others = self._pods.setdefault(key.namespace, {})
        before = others.pop(key, None)
        if by and result.serving:
            others[key] = PodMoorings(key, by, result.serving)
        if before != others.get(key):
            namespaces[key.namespace] = None
        if not others:
            del self._pods[key.namespace]
        return changed

    def _carried(self, key: ObjectKey) -> Carried:
        service = self._world.services.store.get(key)
        if service is None:
            return Carried(())
        scope = self._world.scope
        here: tuple[At, ...] = ()
        moored = moored_by(service, scope)
        if moored and moored.client in KINDS_OF_NODES:
            client = ClientKey(moored.client, scope.node if moored.client == "Node" else scope.zone)
            here = at(self._world.clientele.moorings(key.namespace, GroupClient(moored.group, client)))
        return carried(service, self._world.slices_of(key), scope, here)

    # --- Pods ----------------------------------------------------------------------------------------------------

    def _decide_pods(self, namespace: str) -> set[UnitKey]:
        clientele, found = self._world.clientele, Led()
        if namespace in self._pods:
            pods = clientele.pods(namespace)
            services = [self._ours(each) for each in self._pods[namespace].values()]
            moored = any(each.by.client == "Workload" for each in services)
            found = led(
                namespace,
                services,
                pods,
                clientele.sharing,
                lambda client: clientele.moorings(namespace, client),
                clientele.owners(pods if moored else ()),
            )
        clientele.met(namespace, found.clients)
        self._warned.put(f"Pods of {namespace}", found.warnings)
        return self._desired.lead(namespace, found.targets)

    def _ours(self, service: PodMoorings) -> PodMoorings:
        """Without ports that another Service has, too, and first."""
        ports = {key: port_of(self.state, key) for key in service.serving}
        name = str(service.service)
        ours = {key: service.serving[key] for key, port in ports.items() if port and port.service == name}
        return service._replace(serving=ours)
