"""What a node should carry, put together from what each Service brings."""

from collections.abc import Iterable
from heapq import nsmallest

from moorage.dataplane.model import NodeState, ServiceAddress, ServicePort

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
        self._contested: set[ServiceAddress] = set()

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
            winner = claims[min(claims)] if claims else None
            if winner != self.state.get(key):
                changed.add(key)
                _set(self.state, key, winner)
            if len(claims) > 1:
                self._contested.add(key)
            else:
                self._contested.discard(key)
            if not claims:
                del self._claims[key]
        if new:
            self._keys[service] = set(new)
        else:
            self._keys.pop(service, None)
        return changed

    def conflicts(self) -> list[str]:
        """A line for each address and port that more than one Service claims: for the first of them, if they are
        many."""
        first = nsmallest(MAX_CONFLICTS, self._contested)
        lines = [
            f"Service {loser}: {key.address} {key.protocol} {key.port} is carried for {min(self._claims[key])}; "
            "give one of the two another cluster IP or port"
            for key in first
            for loser in sorted(self._claims[key])[1 : MAX_CONFLICTS + 1]
        ][:MAX_CONFLICTS]
        if len(self._contested) > MAX_CONFLICTS:
            lines.append("several Services claim further addresses and ports, which are not listed")
        return lines


def _set(state: NodeState, key: ServiceAddress, port: ServicePort | None) -> None:
    if port is None:
        state.pop(key, None)
    else:
        state[key] = port
