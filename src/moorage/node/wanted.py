"""Decides what this node should carry, from what the agent knows."""

from collections.abc import Iterable

from moorage.api.meta import ObjectKey
from moorage.dataplane.desired import Desired
from moorage.dataplane.model import NodeState, UnitKey
from moorage.dataplane.services import Carried, carried
from moorage.node.warned import Warned
from moorage.node.world import World


class Wanted:
    """The state that the kernel should have.

    A fault in one object, and a bug in the decision about it, affects no others: its last good state stays in use.
    """

    def __init__(self, world: World, warned: Warned) -> None:
        self._world = world
        self._warned = warned
        self._desired = Desired()

    @property
    def state(self) -> NodeState:
        return self._desired.state

    def decide(self, dirty: Iterable[ObjectKey]) -> set[UnitKey]:
        """Look at these Services again; returns the keys of what has changed."""
        changed: set[UnitKey] = set()
        for key in dirty:
            name = str(key)
            try:
                result = self._carried(key)
                changed |= self._desired.put(name, result.ports)
                self._warned.put(f"Service {name}", result.warnings)
            except Exception as error:
                self._warned.mistake(f"Service {name}", error)
        self._warned.put("conflicts", self._desired.conflicts())
        return changed

    def _carried(self, key: ObjectKey) -> Carried:
        service = self._world.services.store.get(key)
        return carried(service, self._world.slices_of(key), self._world.scope) if service else Carried(())
