"""Shares processor time among namespaces: servers decide how much a step takes."""

from typing import Generic, TypeVar

T = TypeVar("T")

HALF_LIFE_SECONDS = 10.0
"""How long until half of the time that a namespace took is forgotten."""
LITTLE_SECONDS = 0.5
"""One turn is always reserved for namespaces that have lately taken less than this."""
TIDY_SECONDS = 16 * HALF_LIFE_SECONDS
FORGET_SECONDS = 0.001
"""Times below this are forgotten."""


class Turns(Generic[T]):
    """Gives turns to items: `most` at once, and one to each namespace.

    Next is the namespace that has lately taken the least time, and in it the item that has waited longest. So a
    namespace whose items take long waits for all others, and the others do not wait long, however many such
    namespaces there are. `now` is in seconds of any monotonic clock.
    """

    def __init__(self, most: int, now: float) -> None:
        self._most = most
        self._waiting: dict[str, dict[T, None]] = {}
        self._running: dict[str, bool] = {}
        """The running namespaces, each with whether it has lately taken more than LITTLE_SECONDS."""
        self._taken: dict[str, float] = {}
        """Time taken, by namespace, in seconds as of `_since`: later times count for more."""
        self._since = now

    def wait(self, namespace: str, item: T) -> None:
        self._waiting.setdefault(namespace, {})[item] = None

    def withdraw(self, namespace: str, item: T) -> None:
        """Stop `item` from waiting, if it is."""
        items = self._waiting.get(namespace, {})
        items.pop(item, None)
        if not items:
            self._waiting.pop(namespace, None)

    def following(self, now: float) -> T | None:
        """Begin the turn of the next item. None: no item waits, or no turn is free for it."""
        able = [namespace for namespace in self._waiting if namespace not in self._running]
        if len(self._running) == self._most or not able:
            return None
        namespace = min(able, key=lambda each: self._taken.get(each, 0.0))
        much = self._taken.get(namespace, 0.0) * 0.5 ** ((now - self._since) / HALF_LIFE_SECONDS) > LITTLE_SECONDS
        if much and sum(self._running.values()) >= max(1, self._most - 1):
            return None
        item = next(iter(self._waiting[namespace]))
        self.withdraw(namespace, item)
        self._running[namespace] = much
        return item

    def done(self, namespace: str, seconds: float, now: float) -> None:
        """End a turn of the namespace, which took `seconds`."""
        del self._running[namespace]
        if now - self._since > TIDY_SECONDS:
            share = 0.5 ** ((now - self._since) / HALF_LIFE_SECONDS)
            self._taken = {each: left for each, was in self._taken.items() if (left := was * share) > FORGET_SECONDS}
            self._since = now
        weighed = seconds * 2 ** ((now - self._since) / HALF_LIFE_SECONDS)
        self._taken[namespace] = self._taken.get(namespace, 0.0) + weighed
