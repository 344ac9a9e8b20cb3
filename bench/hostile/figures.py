"""The arithmetic of the table "hostile neighbours". Pure."""

import math
from collections.abc import Sequence
from itertools import pairwise

from moorage.probe.prober import JITTER


def missed(times: Sequence[float], until: float, period: float) -> int:
    """How many renewals did not come by the time that the one after them was due.

    `times`: of the renewals there were, from the last one before the measurement on; `until`: its end.
    """
    gaps = [later - earlier for earlier, later in pairwise([*times, until])]
    return sum(max(0, int(gap / period) - 1) for gap in gaps)


def lateness(began: float, times: Sequence[float], ended: float, interval: float) -> list[float]:
    """How late an endpoint's checks were at most, in seconds, those included that did not come at all.

    What the endpoint knows is when it was asked. So a check is late by what it came later than the earliest time that
    it was due after the one before: an interval less its jitter. What came before the measurement is not known, nor
    what comes after it: there, a check is late only if a whole interval has passed.
    """
    if not times:
        return _missing(ended - began - interval, interval)
    gaps = [later - earlier - interval * (1 - JITTER) for earlier, later in pairwise(times)]
    edges = [times[0] - began - interval, ended - times[-1] - interval]
    return [late for gap in (*gaps, *(edge for edge in edges if edge > 0)) for late in _missing(gap, interval)]


def _missing(late: float, interval: float) -> list[float]:
    """Of the check that was late, and of each that it kept from being made: else ten seconds without a check would
    be as rare as one late check."""
    late = max(late, 0.0)
    return [late - interval * number for number in range(int(late / interval) + 1)]


def quantile(values: Sequence[float], share: float) -> float:
    """The least value that this share of them does not exceed; 0 of none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0
