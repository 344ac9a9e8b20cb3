"""Spans of time, and values that change over time. Pure; times are numbers of seconds."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
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

    def __or__(self, other: "Spans") -> "Spans":
        return Spans([*self.spans, *other.spans])

    def touch(self, since: float, until: float) -> bool:
        """Whether one of them has a moment in common with this one."""
        return any(begin <= until and since <= end for begin, end in self.spans)

    def later(self, moment: float, seconds: float) -> float:
        """When so many seconds have passed since a moment, those within the spans not counted."""
        for begin, end in self.spans:
            if end <= moment:
                continue
            free = max(0.0, begin - moment)
            if free >= seconds:
                break
            seconds -= free
            moment = end
        return moment + seconds

    def earlier(self, moment: float, seconds: float) -> float:
        """The opposite: since when so many seconds have passed."""
        return -Spans((-end, -begin) for begin, end in self.spans).later(-moment, seconds)


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
