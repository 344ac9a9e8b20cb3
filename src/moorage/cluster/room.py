"""How much of what servers send may be held at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from moorage.errors import MoorageError


class NoRoomError(MoorageError):
    """More would be held than may be."""


class Hold(Protocol):
    """Takes the number of bytes that are held now, in place of the number before. NoRoomError: they are too many."""

    def __call__(self, size: int) -> None: ...


class House:
    """`size` bytes, divided equally among the rooms in which anything is held at the time."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used: set[Room] = set()


class Room:
    """The answers of all servers of one tenant, in bytes: at most `size`, and its part of the `house`.

    Where others come while it holds its part, they get theirs at once: it keeps what it has, and gets no more.
    """

    def __init__(self, size: int, house: House) -> None:
        self._size = size
        self._house = house
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """For one answer; at the end nothing of it is held any more."""
        mine = 0

        def hold(size: int) -> None:
            nonlocal mine
            if size > mine:
                self._check(self._held + size - mine)
            self._add(size - mine)
            mine = size

        try:
            yield hold
        finally:
            self._add(-mine)

    def _check(self, wanted: int) -> None:
        others = len(self._house.used - {self})
        most = min(self._size, self._house.size // (others + 1))
        if wanted > most:
            raise NoRoomError(
                f"more than {most} bytes at once in the answers to all sources of this namespace; narrow their "
                f"selectors, or have fewer"
            )

    def _add(self, size: int) -> None:
        self._held += size
        if self._held:
            self._house.used.add(self)
        else:
            self._house.used.discard(self)
