"""Keep the kernel in step with Services, their EndpointSlices, and the moorings of the node's clients."""

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from moorage.cluster.backoff import backoff
from moorage.cluster.client import Client
from moorage.dataplane.crowding import Crowding
from moorage.dataplane.model import ClientTarget, ServicePort, UnitKey, title_of
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synced, Synchronizer
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage.node.wanted import Wanted
from moorage.node.warned import Warned
from moorage.node.world import World

log = get_logger("moorage.node")

RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 300.0
"""How long to wait before trying again what nft refused: the first time, and at most."""
MAX_LOGGED_REFUSALS = 20
UNNOTICED = (
    "the kernel does not tell when somebody deletes table inet moorage: that will be noticed within 30 seconds"
)
CLIENTELE_SECONDS = 10.0
"""How long an agent that starts waits for pods and Moorings: the API server may answer about Services alone."""


class Observer:
    """Is told of each sync. This one does nothing with it."""

    def done(self, synced: Synced, seconds: float) -> None:
        """One has succeeded; it took so long."""

    def failed(self) -> None:
        """One has failed."""


class Agent:
    """One node's loop. `run` ends only when cancelled.

    A fault in one object affects no others: its last good state stays in use, and `warnings` says what is wrong. That
    is also true for bugs of this program.
    """

    CHECK_SECONDS = 30.0
    """How often to check that the kernel's digest is still ours, because somebody may have flushed the ruleset, and
    that there is room for sessions."""

    def __init__(
        self,
        client: Client,
        synchronizer: Synchronizer,
        scope: Scope,
        observer: Observer = Observer(),  # noqa: B008
        deleted: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`deleted` returns when somebody has deleted the table; without it that is found out by checking."""
        self._synchronizer = synchronizer
        self._observer = observer
        self._world = World(client, scope)
        self._warned = Warned()
        self._wanted = Wanted(self._world, self._warned)
        self._deleted = deleted
        self._check_at = -math.inf
        """When to check the kernel next, by the event loop's clock."""
        self.synced = False
        """Whether the kernel has been brought up to date once."""
        self._behind_since: float | None = None
        """Since when it has not been up to date, by the event loop's clock; None: it is, or nothing is known yet."""
        self._refusals = 0
        """How often in a row nft has refused something."""
        self._retry_at = math.inf
        """When to try that again."""

    @property
    def warnings(self) -> list[str]:
        """A line for each thing that is left out or kept in its old state, with the reason."""
        return [*self._world.left_out(), *self._warned]

    @property
    def behind_seconds(self) -> float:
        """For how long the kernel has not been what is wanted, however often a sync was tried; 0 if it is."""
        since = self._behind_since
        return 0.0 if since is None else asyncio.get_running_loop().time() - since

    @property
    def ports(self) -> int:
        """How many ports of Services are carried."""
        return sum(isinstance(each, ServicePort) for each in self._wanted.state.values())

    @property
    def moorings(self) -> int:
        """How many pods' addresses are led by a mooring, each port of a Service counted."""
        return sum(isinstance(each, ClientTarget) for each in self._wanted.state.values())

    @property
    def crowding(self) -> Crowding:
        """How many sessions there are, and whether there is room for more."""
        return self._synchronizer.crowding

    @property
    def refused(self) -> int:
        """How many of them nft refuses."""
        return len(self._synchronizer.refused)

    async def run(self) -> None:
        """Follow the API and program the kernel until cancelled. Raises MoorageError only if it cannot start."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._world.run())
            if self._deleted is not None:
                tasks.create_task(self._take_notice(self._deleted))
            await self._world.until_known()
            changed = self._wanted.decide(self._world.dirty.take_now())
            # An earlier agent has led pods to where they are moored: until that is known again, they stay led there.
            with suppress(TimeoutError):
                async with asyncio.timeout(CLIENTELE_SECONDS):
                    await self._world.clientele.until_answered()
            await self._program(changed)

    async def _program(self, changed: set[UnitKey]) -> None:
        """Decide and act whenever something changes. The first round also cleans up after an earlier agent."""
        failures = 0
        now = asyncio.get_running_loop().time
        while True:
            changed |= self._wanted.decide(self._world.dirty.take_now())
            try:
                began = now()
                if self._behind_since is None:
                    self._behind_since = began
                ended = frozenset(self._world.clientele.ended)
                synced = await self._synchronizer.sync(self._wanted.state, changed, ended)
                self._world.clientele.ended -= ended
                first = not self.synced
                self._behind_since, self.synced = None, True
                self._observer.done(synced, now() - began)
                # One that starts again may find all as it should be: that is worth a line, too.
                if any(synced) or failures or first:
                    log.info("synced", changed=len(changed), **synced._asdict())
                failures = 0
                self._take_refusals()
                changed = await self._next()
            except Exception as error:
                failures += 1
                self._observer.failed()
                wait = backoff(failures, random.random())
                what = "the kernel keeps its last good state"
                if isinstance(error, MoorageError):
                    log.error(what, error=str(error), retry_seconds=round(wait, 1))
                else:
                    log.error(f"{what} because of a bug in Moorage", exc_info=error, retry_seconds=round(wait, 1))
                await asyncio.sleep(wait)

    def _take_refusals(self) -> None:
        """Warn about ports that nft refuses, and plan when to try again."""
        refused = self._synchronizer.refused
        self._warned.put(
            "nft",
            [
                f"{title_of(each.unit)} stays as it was: {each.words}"
                for _, each in itertools.islice(sorted(refused.items(), key=str), MAX_LOGGED_REFUSALS)
            ],
        )
        if not refused:
            self._refusals, self._retry_at = 0, math.inf
        elif self._retry_at == math.inf:
            self._refusals += 1
            wait = backoff(self._refusals, random.random(), first=RETRY_SECONDS, longest=MAX_RETRY_SECONDS)
            self._retry_at = asyncio.get_running_loop().time() + wait

    async def _take_notice(self, deleted: Callable[[], Awaitable[None]]) -> None:
        """Have the kernel checked at once when somebody has deleted the table."""
        try:
            while True:
                await deleted()
                self._check_at = -math.inf
                self._world.dirty.wake()
        except OSError as error:
            log.warning(UNNOTICED, error=str(error))

    async def _next(self) -> set[UnitKey]:
        """Wait for a change. Returns the keys that changed; none if it is time to check the kernel."""
        now = asyncio.get_running_loop().time
        while True:
            if now() >= self._check_at:
                self._check_at = now() + self.CHECK_SECONDS
                self._warned.put("sessions", await self._synchronizer.crowding.look())
                if self._synchronizer.unfinished:
                    return set()
                if not await self._synchronizer.intact():
                    log.warning("table inet moorage was changed by somebody else; programming it again")
                    return set()
            if now() >= self._retry_at:
                self._retry_at = math.inf
                return self._synchronizer.retry_refused()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(min(self._check_at, self._retry_at)):
                    return self._wanted.decide(await self._world.dirty.take())
