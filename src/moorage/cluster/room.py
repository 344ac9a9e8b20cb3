"""Limits how much of servers' answers is held in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from moorage.errors import MoorageError


class NoRoomError(MoorageError):
    """The limit has been reached."""


class Hold(Protocol):
    """Called with the number of bytes that are held now; it replaces the last one. Raises NoRoomError for too
    many."""

    def __call__(self, size: int) -> None: ...


class House:
    """`size` bytes, divided equally among the rooms that hold anything at the moment."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used: set[Room] = set()


class Room:
    """Limits the bytes of answers from all servers of one tenant to `size`, and to its part of `house`.

    When others come, they get their parts at once: this room keeps what it holds, but gets no more.
    """

    def __init__(self, size: int, house: House) -> None:
        self._size = size
        self._house = house
        self._held = 0

    @contextmanager
    def holding(self) -> Iterator[Hold]:
        """Holds one answer until the block ends."""
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
