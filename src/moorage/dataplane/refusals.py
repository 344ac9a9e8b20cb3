"""Ports that nft does not take although they look well formed: found, left out, and tried again.

One transaction carries the changes of many Services, and all fail with the one that nft does not take. To find it,
nft is asked about each half, and each half of that, in a table of its own that is never made: there the elements that
the kernel has, and that somebody else may have changed, play no part. Where nft does not take that table even without
elements, the cause is nobody's: no permission, no memory, an nft that crashes.
"""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from moorage.dataplane.changes import Ledger
from moorage.dataplane.model import NodeState, ServiceAddress, ServicePort
from moorage.dataplane.nft import TABLE, TRIAL, Nft
from moorage.errors import MoorageError
from moorage.log import get_logger

MAX_QUESTIONS = 100
"""Most questions that nft is asked in one search: enough to find about ten among thousands. What is not found by then
is left out together, and looked at by itself when it is tried again."""
NOT_FOUND_OUT = "nft does not take some of the ports that are left out with this one; which ones is found out later"

log = get_logger("moorage.dataplane")


class Refused(NamedTuple):
    """A port that is left out."""

    port: ServicePort
    """What was wanted."""
    kept: ServicePort | None
    """What the kernel has in its place: its last good state."""
    words: str
    """Why, in nft's words."""
    found: bool = True
    """False: it is left out with others, among which nft refused one."""


class Refusals:
    """What is left out at present, by key."""

    def __init__(self, nft: Nft, learns: frozenset[int], limit: int) -> None:
        """`learns`: the families whose sessions are learned; `limit`: most elements in a transaction."""
        self.refused: dict[ServiceAddress, Refused] = {}
        self._nft = nft
        self._learns = learns
        self._limit = limit

    def without(self, desired: Mapping[ServiceAddress, ServicePort]) -> Mapping[ServiceAddress, ServicePort]:
        """`desired` with the last good state of what is left out; whatever is wanted otherwise by now is not."""
        for key, each in list(self.refused.items()):
            if desired.get(key) != each.port:
                del self.refused[key]
        if not self.refused:
            return desired
        left = {key: port for key, port in desired.items() if key not in self.refused}
        return left | {key: each.kept for key, each in self.refused.items() if each.kept is not None}

    def forgive(self) -> set[ServiceAddress]:
        """Leave out no longer what was not found out, or else anything; returns the keys."""
        keys = {key for key, each in self.refused.items() if not each.found} or set(self.refused)
        for key in keys:
            del self.refused[key]
        return keys

    async def find(
        self, ports: Mapping[ServiceAddress, ServicePort], kept: Mapping[ServiceAddress, ServicePort | None]
    ) -> bool:
        """Find those of `ports` that nft does not take, and leave them out; whether there are any.

        `kept`: what the kernel has of them. Raises MoorageError where nft cannot be asked.
        """
        if not ports or await self._why({}) is not None:
            return False
        found: dict[ServiceAddress, Refused] = {}
        questions, groups = 0, [list(ports)]
        while groups:
            group = groups.pop()
            questions += 1
            if questions > MAX_QUESTIONS:
                found |= {key: Refused(ports[key], kept.get(key), NOT_FOUND_OUT, found=False) for key in group}
            elif (words := await self._why({key: ports[key] for key in group})) is None:
                continue
            elif len(group) == 1:
                found |= {key: Refused(ports[key], kept.get(key), words) for key in group}
            else:
                middle = len(group) // 2
                groups += [group[:middle], group[middle:]]
        if not found or await self._why({}) is not None:
            return False
        self.refused |= found
        return True

    async def _why(self, ports: NodeState) -> str | None:
        """Why nft does not take these ports, in its words; None where it does."""
        try:
            scripts = Ledger(ports, self._learns, self._limit).trial()
            while (script := await asyncio.to_thread(next, scripts, None)) is not None:
                if words := await self._nft.refusal(script):
                    return words.replace(TRIAL, TABLE)
        except MoorageError:
            raise
        except Exception as error:
            if len(ports) == 1:
                log.error("a mistake in Moorage", port=next(iter(ports.values())).service, exc_info=error)
            return f"{type(error).__name__}, a mistake in Moorage; the log says more"
        return None
