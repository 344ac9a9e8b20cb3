"""What a node should carry, put together from what each Service and each namespace brings."""

from collections.abc import Iterable, Mapping
from heapq import nsmallest

from moorage.dataplane.model import ClientTarget, NodeState, PodPrefix, ServiceAddress, ServicePort, Unit, UnitKey

MAX_CONFLICTS = 20
"""How many lines there may be about addresses that several Services claim."""


class Desired:
    """What a node should carry, updated Service by Service.

    Two Services can only claim the same address and port by mistake. Then the one whose name sorts first has it, and
    the other gets it when the first goes.
    """

    def __init__(self) -> None:
        self.state: NodeState = {}
        self._claims: dict[ServiceAddress, dict[str, ServicePort]] = {}
        self._keys: dict[str, set[ServiceAddress]] = {}
        self.contested: set[ServiceAddress] = set()
        """What several Services claim."""
        self._led: dict[str, set[UnitKey]] = {}
        self._prefixes: set[UnitKey] = set()

    def put(self, service: str, ports: Iterable[ServicePort]) -> set[ServiceAddress]:
        """Replace what is carried of `service` (`namespace/name`); returns the keys whose state has changed."""
        new = {port.key: port for port in ports}
        keys = self._keys.get(service, set()) | set(new)
        changed = set()
        for key in keys:
            claims = self._claims.setdefault(key, {})
            claims.pop(service, None)
            if key in new:
                claims[service] = new[key]
            if self._set(key, claims[min(claims)] if claims else None):
                changed.add(key)
            if len(claims) > 1:
                self.contested.add(key)
            else:
                self.contested.discard(key)
            if not claims:
                del self._claims[key]
        if new:
            self._keys[service] = set(new)
        else:
            self._keys.pop(service, None)
        return changed

    def lead(self, namespace: str, targets: Iterable[ClientTarget]) -> set[UnitKey]:
        """Replace where the pods of `namespace` are led on the ports of its Services; returns the keys whose state
        has changed."""
        new: dict[UnitKey, Unit] = {each.key: each for each in targets}
        changed = self._replace(self._led.pop(namespace, set()), new)
        if new:
            self._led[namespace] = set(new)
        return changed

    def prefixes(self, prefixes: Iterable[PodPrefix]) -> set[UnitKey]:
        """Replace the ranges of addresses that the node's pods have; returns the keys whose state has changed."""
        new: dict[UnitKey, Unit] = {each.key: each for each in prefixes}
        changed = self._replace(self._prefixes, new)
        self._prefixes = set(new)
        return changed

    def conflicts(self) -> list[str]:
        """A line for each address and port that more than one Service claims: for the first of them, if they are
        many."""
        first = nsmallest(MAX_CONFLICTS, self.contested)
        lines = [
            f"Service {loser}: {key.address} {key.protocol} {key.port} is carried for {min(self._claims[key])}; "
            "give one of the two another cluster IP or port"
            for key in first
            for loser in sorted(self._claims[key])[1 : MAX_CONFLICTS + 1]
        ][:MAX_CONFLICTS]
        if len(self.contested) > MAX_CONFLICTS:
            lines.append("several Services claim further addresses and ports, which are not listed")
        return lines

    def _replace(self, old: Iterable[UnitKey], new: Mapping[UnitKey, Unit]) -> set[UnitKey]:
        return {key for key in {*old, *new} if self._set(key, new.get(key))}

    def _set(self, key: UnitKey, unit: Unit | None) -> bool:
        """Whether that is a change."""
        if self.state.get(key) == unit:
            return False
        if unit is None:
            del self.state[key]
        else:
            self.state[key] = unit
        return True
