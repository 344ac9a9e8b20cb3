"""How long this machine let nobody run: what was promised in seconds may take that much longer."""

import threading
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

PAUSE_SECONDS = 0.05
"""Seconds between two ticks, where nothing holds them up."""


def lost(ticks: Sequence[float], since: float, until: float) -> float:
    """Seconds by which ticks between these times were late. Pure."""
    return sum(max(0.0, min(late, until) - max(early, since) - PAUSE_SECONDS) for early, late in pairwise(ticks))


def late(ticks: Sequence[float], seconds: float) -> list[tuple[float, float]]:
    """When ticks were later than by so many seconds: from when one should have been until it was. Pure."""
    return [
        (early + PAUSE_SECONDS, late) for early, late in pairwise(ticks) if late - early - PAUSE_SECONDS > seconds
    ]


class Stalls:
    """Notes when it gets to run, in a thread, within the `with` block."""

    def __init__(self) -> None:
        self._ticks = [time.monotonic()]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stalls", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join(10)

    def since(self, moment: float) -> float:
        """Seconds that were lost since then, a time by `time.monotonic`."""
        now = time.monotonic()
        return lost([*self._ticks, now], moment, now)

    def longer(self, seconds: float) -> list[tuple[float, float]]:
        """From when to when nothing ran for longer than so many seconds."""
        return late(self._ticks, seconds)

    def _run(self) -> None:
        while not self._stopped.wait(PAUSE_SECONDS):
            self._ticks.append(time.monotonic())
