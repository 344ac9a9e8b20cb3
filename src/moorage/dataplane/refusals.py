"""Finds units that nft refuses although they look well formed, leaves them out, and tries them again.

One transaction holds the changes of many Services, so one port or mooring that nft refuses makes all of them fail. To
find it, nft is asked about each half, and each half of that, in a separate table that is never made, where changes by
somebody else in the real table do not matter. If nft refuses that table even without elements, no unit is at fault:
there is no permission, no memory, or nft crashes.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from moorage.dataplane.changes import Ledger
from moorage.dataplane.model import Unit, UnitKey, title_of
from moorage.dataplane.nft import TABLE_NAME, TRIAL_NAME, Nft
from moorage.errors import MoorageError
from moorage.log import get_logger

MAX_QUESTIONS = 100
"""How many questions one search may ask: enough to find about ten units among thousands. Suspects that are left by
then are left out together, and looked at one by one when they are tried again."""
NOT_NARROWED_DOWN = (
    "nft refuses this, or something else that is left out with it; they are tried again in smaller groups"
)

log = get_logger("moorage.dataplane")


class Refused(NamedTuple):
    """A unit that is left out because nft refuses it."""

    unit: Unit
    """The state that nft refused."""
    kept: Unit | None
    """The state that the kernel has instead: the last good one."""
    words: str
    """Why, in nft's words."""
    found: bool = True
    """False: it is left out together with others, of which nft refuses at least one."""


class Refusals:
    """The units that are left out at the moment, and the search for them."""

    def __init__(self, nft: Nft, learns: frozenset[int], limit: int) -> None:
        """`learns`: the families whose sessions are learned; `limit`: how many elements a transaction may have."""
        self.refused: dict[UnitKey, Refused] = {}
        self._nft = nft
        self._learns = learns
        self._limit = limit

    def without(self, desired: Mapping[UnitKey, Unit]) -> Mapping[UnitKey, Unit]:
        """`desired`, with the last good state of units that are left out.

        A unit whose desired state has changed is no longer left out.
        """
        for key, each in list(self.refused.items()):
            if desired.get(key) != each.unit:
                del self.refused[key]
        if not self.refused:
            return desired
        left = {key: unit for key, unit in desired.items() if key not in self.refused}
        return left | {key: each.kept for key, each in self.refused.items() if each.kept is not None}

    def retry_refused(self) -> set[UnitKey]:
        """Allow units to be tried again: those that were left out in groups, or else all. Returns their keys."""
        keys = {key for key, each in self.refused.items() if not each.found} or set(self.refused)
        for key in keys:
            del self.refused[key]
        return keys

    async def find(self, units: Mapping[UnitKey, Unit], kept: Mapping[UnitKey, Unit | None]) -> bool:
        """Find the `units` that nft refuses, and leave them out; returns whether there are any.

        `kept`: their states in the kernel. Raises MoorageError if nft cannot be asked.
        """
        if not units or await self._why({}) is not None:
            return False
        found: dict[UnitKey, Refused] = {}
        questions, groups = 0, [list(units)]
        while groups:
            group = groups.pop()
            questions += 1
            if questions > MAX_QUESTIONS:
                found |= {key: Refused(units[key], kept.get(key), NOT_NARROWED_DOWN, found=False) for key in group}
            elif (words := await self._why({key: units[key] for key in group})) is None:
                continue
            elif len(group) == 1:
                found |= {key: Refused(units[key], kept.get(key), words) for key in group}
            else:
                middle = len(group) // 2
                groups += [group[:middle], group[middle:]]
        if not found or await self._why({}) is not None:
            return False
        self.refused |= found
        return True

    async def _why(self, units: Mapping[UnitKey, Unit]) -> str | None:
        """Why nft refuses these units, in its words; None if it accepts them."""
        try:
            scripts = Ledger(units, self._learns, self._limit).trial()
            while (script := await asyncio.to_thread(next, scripts, None)) is not None:
                if words := await self._nft.refusal(script):
                    return words.replace(TRIAL_NAME, TABLE_NAME)
        except MoorageError:
            raise
        except Exception as error:
            if len(units) == 1:
                log.error("a bug in Moorage", unit=title_of(next(iter(units.values()))), exc_info=error)
            return f"{type(error).__name__}, a bug in Moorage; the log says more"
        return None
