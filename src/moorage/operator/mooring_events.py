"""Events about clients that have moved: on the client's pod or node, and on the ExternalServices of its group."""

from collections.abc import Iterable, Sequence

from moorage.api.meta import ObjectKey
from moorage.core.mooring_model import Move
from moorage.operator.deferred import Deferred
from moorage.operator.world import World

MAX_SINGLE = 10
"""So many of the clients that leave one endpoint for one reason get an Event of their own."""
MAX_MEMBERS = 3
"""So many ExternalServices of a group get the Event about all of them."""
MAX_NAMED = 3


class MooringEvents:
    """Who has just been assigned an endpoint is no news: the Mooring says it."""

    def __init__(self, world: World, events: Deferred) -> None:
        self._world = world
        self._events = events

    def tell(self, group: ObjectKey, moves: Iterable[Move]) -> None:
        """Record Events about `moves`, which have been written."""
        together: dict[tuple[str, str], list[Move]] = {}
        for move in moves:
            if move.previous:
                together.setdefault((move.reason, move.previous), []).append(move)
        members = self._world.members(group)[:MAX_MEMBERS]
        for each in together.values():
            first = each[0]
            for move in each[:MAX_SINGLE]:
                if move.client.subject is not None:
                    self._events.record(move.client.subject, _type(move), move.reason, _of_one(group, move))
            for xsvc in members:
                self._events.record(xsvc, _type(first), first.reason, _of_all(each))


def _type(move: Move) -> str:
    return "Warning" if move.reason == "FailedOver" else "Normal"


def _of_one(group: ObjectKey, move: Move) -> str:
    return f"Moved from {move.previous} to {move.endpoint} of {group.name}: {move.why}"


def _of_all(moves: Sequence[Move]) -> str:
    if len(moves) <= MAX_NAMED:
        who = ", ".join(f"{each.client.key} to {each.endpoint}" for each in moves)
    else:
        names = ", ".join(str(each.client.key) for each in moves[:MAX_NAMED])
        who = f"{len(moves)} clients: {names} and {len(moves) - MAX_NAMED} more"
    return f"Moved from {moves[0].previous}: {who}: {moves[0].why}"
