"""When clients leave an endpoint that has to be empty by a deadline: evenly spread over the time.

The clients that are still there always share the time that is left. So of n clients the k-th leaves at k/n of the
time; if some go for another reason, the others have more time each; and if nobody has decided for a while, the delay
ends in one catch-up and the rest is spread again. All times are in seconds since 1970.
"""

import math
from collections.abc import Iterable
from itertools import pairwise

from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.core import times


def started(xsvc: ExternalService) -> dict[str, str | None]:
    """Name of each endpoint that the spec drains -> since when (RFC 3339), by the status; None: not yet."""
    recorded = {each.name: each.drained_since for each in xsvc.status.endpoints or ()}
    return {each.endpoint: recorded.get(each.endpoint) for each in xsvc.spec.drain or ()}


def due(clients: int, last: float, deadline: float, now: float) -> int:
    """How many of the `clients` at the endpoint have to leave now, if the last one left at `last`."""
    if now >= deadline:
        return clients
    return max(0, math.floor(clients * (now - last) / (deadline - last)))


def next_departure(clients: int, last: float, deadline: float) -> float:
    """When the next of `clients` (at least one) has to leave."""
    return last + max(0.0, deadline - last) / clients


def last_departure(endpoint: str, moorings: Iterable[Mooring], began: float) -> float:
    """When a client last left the endpoint because of the drain; `began`, its start, if none has.

    The Moorings remember that. If one is deleted with its client, another client leaves a little earlier.
    """
    last = began
    for mooring in moorings:
        for move, before in pairwise(mooring.status.moves or ()):
            if move.reason == "Drained" and before.endpoint == endpoint:
                last = max(last, times.seconds(move.time) or began)
    return last
