"""How clients could be spread evenly again. Clients are never moved for that alone."""

import heapq
from collections.abc import Mapping

from moorage.core.assignment import Assignment
from moorage.core.groups import Group, combined
from moorage.core.mooring_model import Move
from moorage.core.snapshot import GroupSnapshot


def fewest_moves_to_even(snapshot: GroupSnapshot) -> list[Move]:
    """The smallest number of moves that spreads clients as evenly as if all were assigned anew.

    They follow what `decide_group` decides from the same snapshot. Only endpoints that take new clients give and get
    any, and those clients move that came last. There are no moves if no member counts.
    """
    group = combined(snapshot.members)
    if not group.members:
        return []
    assignment = Assignment(snapshot, group)
    assignment.settle()
    present = snapshot.roster.present
    all_clients = assignment.clients_by_endpoint()
    clients = {
        each.name: [key for key in assignment.by_arrival(all_clients.get(each.name, ())) if key in present]
        for each in group.endpoints.values()
        if each.takes
    }
    targets = _targets(group, {name: len(there) for name, there in clients.items()})
    leaving = [(name, key) for name, there in clients.items() for key in there[targets[name] :]]
    places = [name for name, there in clients.items() for _ in range(targets[name] - len(there))]
    return [
        Move(present[key], new, old, "Moved", f"{old} has {len(clients[old])} clients, and {new} {len(clients[new])}")
        for (old, key), new in zip(leaving, places, strict=True)
    ]


def _targets(group: Group, counts: Mapping[str, int]) -> dict[str, int]:
    """How many clients each endpoint would have if all were assigned anew.

    Among equals the next client goes to an endpoint that has more now. So the most stay where they are.
    """
    targets = dict.fromkeys(counts, 0)

    def rank(name: str) -> tuple[float, bool, str]:
        return targets[name] / group.endpoints[name].weight, targets[name] >= counts[name], name

    ranks = [rank(name) for name in counts]
    heapq.heapify(ranks)
    for _ in range(sum(counts.values())):
        _, _, name = heapq.heappop(ranks)
        targets[name] += 1
        if group.limit is None or targets[name] < max(group.limit, counts[name]):
            heapq.heappush(ranks, rank(name))
    return targets
