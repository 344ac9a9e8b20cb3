"""Writes the Moorings of a decision about a group."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from moorage.api.meta import ObjectKey
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.errors import ApiError
from moorage.cluster.turns import Turns
from moorage.core.model import Create, Delete, Write
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage.operator.clientele import Clientele, group_of_mooring
from moorage.operator.refusals import Refusals
from moorage.operator.writer import RefusedError, StaleError, TakenError, Writer

log = get_logger("moorage.operator.moorings")

MAX_IN_FLIGHT = 16
"""Writes of Moorings at once, of all groups together. More make neither kube-apiserver nor this process faster."""
MAX_REFUSALS = 16
"""So many refusals end an attempt: whatever refuses one mostly refuses all."""


@dataclass(slots=True)
class Attempt:
    """What has come of the writes of one decision."""

    done: set[int] = field(default_factory=set)
    """Those that were done, by their place in the decision."""
    refused: set[int] = field(default_factory=set)
    """Those that the API server does not take, now or at an earlier attempt."""
    stale: StaleError | None = None
    """Something was not as it was decided from."""
    error: MoorageError | None = None
    """What ended the attempt early: nobody can write at the moment."""
    left: bool = False
    """There was no time for all."""


class MooringWriter:
    """Writes several Moorings at a time. Namespaces take turns, so that thousands of one do not hold up others'."""

    def __init__(self, writer: Writer, clients: Clientele) -> None:
        self._writer = writer
        self._clients = clients
        self._turns = Turns(MAX_IN_FLIGHT)

    async def attempt(self, group: ObjectKey, writes: Sequence[Write], refusals: Refusals, seconds: float) -> Attempt:
        """Do `writes`, in this order, for at most `seconds`. One that fails does not end the others."""
        now = asyncio.get_running_loop().time
        refusals.keep({name_of(each) for each in writes})
        attempt, until, refused = Attempt(), now() + seconds, 0
        numbers = iter(range(len(writes)))

        async def lane() -> None:
            nonlocal refused
            for number in numbers:
                write = writes[number]
                name = name_of(write)
                if refusals.holds(name, now()):
                    attempt.refused.add(number)
                    continue
                async with self._turns.turn(group.namespace):
                    if attempt.error is not None:
                        return
                    if now() >= until or refused >= MAX_REFUSALS:
                        attempt.left = True
                        return
                    message = await self._one(group, attempt, number, write)
                if message is None:
                    refusals.drop(name)
                    continue
                attempt.refused.add(number)
                if refusals.add(name, message, now()) == "WriteRefused":
                    refused += 1
                else:
                    for other in _creations(writes, attempt):
                        refusals.share(name_of(writes[other]), name)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(MAX_IN_FLIGHT, len(writes))):
                tasks.create_task(lane())
        return attempt

    async def _one(self, group: ObjectKey, attempt: Attempt, number: int, write: Write) -> str | None:
        """Do one write. Returns why it is refused; None: it is not."""
        key = ObjectKey(group.namespace, name_of(write))
        try:
            with self._clients.writing(key):
                await self._writer.do(write)
        except TakenError as taken:
            if (why := self._why_taken(group, key, write)) is not None:
                return why
            attempt.stale = taken
        except StaleError as stale:
            attempt.stale = stale
        except RefusedError as refused:
            return refused.error.message
        except MoorageError as error:
            # A webhook that does not answer is a 500 for what it is asked about, and for nothing else.
            if isinstance(error, ApiError) and error.status == 500:
                return error.message
            attempt.error = error
        else:
            attempt.done.add(number)
            if isinstance(write, Delete):
                self._clients.gone(key)
        return None

    def _why_taken(self, group: ObjectKey, key: ObjectKey, write: Write) -> str | None:
        """Why a name will stay taken; None: the watch is late, and will show one that can be used."""
        if (bad := self._clients.unreadable(key)) is not None:
            return f"there is one that cannot be read: {bad.why}"
        found = self._clients.mooring(key)
        if found is None or not (isinstance(write, Create) and isinstance(write.obj, Mooring)):
            return None
        if group_of_mooring(found) == group and found.spec.client == write.obj.spec.client:
            return None
        client = found.spec.client
        return f"there is one for {client.kind} {client.name} of group {found.spec.group}"


def name_of(write: Write) -> str:
    return write.obj.metadata.name if isinstance(write, Create) else write.name


def _creations(writes: Sequence[Write], attempt: Attempt) -> Iterable[int]:
    """Those that have not been done."""
    started = attempt.done | attempt.refused
    return (number for number, each in enumerate(writes) if isinstance(each, Create) and number not in started)
