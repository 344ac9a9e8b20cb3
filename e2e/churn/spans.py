"""Spans of time, and values that change over time. Pure; times are numbers of seconds."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from functools import cached_property
from typing import Generic, TypeVar

T = TypeVar("T")


class Spans:
    """Spans of time, each with both of its ends. Spans that meet are one."""

    def __init__(self, spans: Iterable[tuple[float, float]] = ()) -> None:
        self.spans: list[tuple[float, float]] = []
        for since, until in sorted(spans):
            if self.spans and since <= self.spans[-1][1]:
                self.spans[-1] = (self.spans[-1][0], max(until, self.spans[-1][1]))
            else:
                self.spans.append((since, until))
        self._ends = [end for _, end in self.spans]

    def __or__(self, other: "Spans") -> "Spans":
        return Spans([*self.spans, *other.spans])

    def touch(self, since: float, until: float) -> bool:
        """Whether one of them has a moment in common with this one."""
        first = bisect_left(self._ends, since)
        return first < len(self.spans) and self.spans[first][0] <= until

    def later(self, moment: float, seconds: float) -> float:
        """When so many seconds have passed since a moment, those within the spans not counted."""
        for index in range(bisect_right(self._ends, moment), len(self.spans)):
            begin, end = self.spans[index]
            free = max(0.0, begin - moment)
            if free >= seconds:
                break
            seconds -= free
            moment = end
        return moment + seconds

    def earlier(self, moment: float, seconds: float) -> float:
        """The opposite: since when so many seconds have passed."""
        return -self._backwards.later(-moment, seconds)

    @cached_property
    def _backwards(self) -> "Spans":
        return Spans((-end, -begin) for begin, end in self.spans)


class Timeline(Generic[T]):
    """A value that changes. Changes are added in the order of time."""

    def __init__(self, first: T) -> None:
        self._times = [-math.inf]
        self._values = [first]

    def add(self, at: float, value: T) -> None:
        self._times.append(at)
        self._values.append(value)

    def at(self, moment: float) -> T:
        return self._values[bisect_right(self._times, moment) - 1]

    def within(self, since: float, until: float) -> list[T]:
        """All values that it has between these times, the earliest first."""
        return self._values[bisect_right(self._times, since) - 1 : bisect_right(self._times, until)]

    def changes(self, since: float, until: float) -> list[float]:
        """When it changes between these times."""
        return self._times[bisect_left(self._times, since) : bisect_right(self._times, until)]

    @property
    def last(self) -> T:
        return self._values[-1]
