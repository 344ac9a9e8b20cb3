"""One leader at a time, by a Lease. The same record and timings as client-go's `tools/leaderelection`.

The holder renews the Lease. A candidate takes it over if the record has not changed for as long as the record says,
by the candidate's own monotonic clock: clocks of two machines are never compared. Every write has the Lease's uid and
resourceVersion as preconditions, so if two candidates write, one gets 409.

A Lease does not fence. The leader gives up five seconds before anybody else may begin, counted from when it *sent*
the last acknowledged renewal. But a process that was frozen during a write notices too late. So writers call
`Leadership.check` right before each write, and the write itself has uid and resourceVersion as preconditions.
"""

import asyncio
import math
import random
import socket
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, Protocol

from moorage.api.coordination_v1 import Lease, LeaseSpec
from moorage.api.meta import ObjectMeta
from moorage.cluster.clock import micro_timestamp
from moorage.cluster.errors import ApiError
from moorage.errors import MoorageError
from moorage.log import get_logger

JITTER = 0.2
"""Candidates spread their attempts by this share of the retry period. client-go's 1.2 would delay an attempt by up to
4.4 s after the Lease has expired; optimistic locking already makes sure that only one wins."""

CONFLICTS = (404, 409, 422)
"""The answers to a write with uid and resourceVersion if the object has changed."""


class LeaseClient(Protocol):
    """The part of a client that an election needs."""

    async def get(self, kind: type[Lease], namespace: str | None, name: str) -> Lease: ...

    async def create(self, obj: Lease) -> Lease: ...

    async def patch(self, kind: type[Lease], namespace: str | None, name: str, body: object) -> Lease: ...


class Timings(NamedTuple):
    """Seconds; client-go's defaults."""

    lease: float = 15.0
    """How long others wait after the last change of the record that they have seen."""
    renew: float = 10.0
    """How long the leader goes on after the last acknowledged renewal."""
    retry: float = 2.0
    """Between attempts to take or renew."""


TIMINGS = Timings()


class NotLeadingError(MoorageError):
    """This process may no longer write: it does not lead, or does not know whether it does."""


class Leadership:
    """The right to act as leader. Once it has ended, it never comes back."""

    def __init__(self, until: float, term: int) -> None:
        self._until = until
        self.term = term
        """`leaseTransitions` of the Lease: it is higher for each new leader."""

    @property
    def until(self) -> float:
        """When it ends unless it is renewed, by the event loop's clock."""
        return self._until

    def valid(self) -> bool:
        """Whether this process leads now. Also right in a process that was frozen until now."""
        return asyncio.get_running_loop().time() < self._until

    def check(self) -> None:
        """To be called right before each write, without an `await` in between. Raises NotLeadingError."""
        if not self.valid():
            raise NotLeadingError("not leading any more; whoever leads now does this")

    def _renew(self, until: float) -> None:
        if self.valid():
            self._until = max(self._until, until)

    def _end(self) -> None:
        self._until = min(self._until, asyncio.get_running_loop().time())


Lead = Callable[[Leadership], Coroutine[Any, Any, None]]


class Election:
    """A candidate for one Lease. `identity` must be unique to this process (`process_identity`).

    `on_leader(identity)` is called when the holder has changed, also to this process; `""` is nobody. Raises
    ValueError for timings with which two leaders could overlap or a renewal could not be repeated.
    """

    def __init__(
        self,
        client: LeaseClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        timings: Timings = TIMINGS,
        jitter: Callable[[], float] = random.random,
        now: Callable[[], str] = micro_timestamp,
        on_leader: Callable[[str], None] = lambda identity: None,
    ) -> None:
        if not identity:
            raise ValueError("identity: is empty, which in a Lease means that nobody holds it")
        self._client, self._namespace, self._name, self._identity = client, namespace, name, identity
        if not timings.lease > timings.renew > timings.retry * (1 + JITTER) > 0:
            raise ValueError(f"{timings}: must be lease > renew > {1 + JITTER} * retry > 0")
        self._timings = timings
        self._jitter, self._now, self._on_leader = jitter, now, on_leader
        self._lease: Lease | None = None
        """The Lease as last seen."""
        self._changed_at = 0.0
        """When its present record was first seen, by the event loop's clock."""
        self._sent = False
        """A claim is under way, or its outcome is unknown: we may hold the Lease without knowing."""
        self._silent = False
        self._log = get_logger("moorage.cluster.election", lease=f"{namespace}/{name}", identity=identity)

    @property
    def holder(self) -> str:
        """Who held the Lease when it was last seen; `""` for nobody."""
        return (self._lease and self._lease.spec.holder_identity) or ""

    async def run(self, lead: Lead) -> None:
        """Wait for the Lease, then run `lead`; if the Lease is lost, cancel `lead` and wait for the Lease again.

        Returns when `lead` returns, and raises what it raises. After that, or when this is cancelled and `lead` has
        ended, the Lease is given back, so that another candidate takes over at once. It is renewed until then: `lead`
        is still the leader while it ends.
        """
        while True:
            leadership = await self._campaign()
            self._log.info("leading", term=leadership.term)
            if await self._serve(leadership, lead):
                return

    async def _campaign(self) -> Leadership:
        loop = asyncio.get_running_loop()
        try:
            while True:
                sent = loop.time()
                if await self._claim():
                    transitions = (self._lease and self._lease.spec.lease_transitions) or 0
                    leadership = Leadership(sent + self._timings.renew, transitions)
                    if leadership.valid():
                        return leadership
                await asyncio.sleep(self._pause())
        except BaseException:
            if self._sent:
                await self._release()
            raise

    def _pause(self) -> float:
        """Seconds until the next attempt: the retry period, or less if the Lease expires before that."""
        spread = self._timings.retry * JITTER * self._jitter()
        left = self._expires_at() - asyncio.get_running_loop().time()
        return (min(left, self._timings.retry) if left > 0 else self._timings.retry) + spread

    async def _serve(self, leadership: Leadership, lead: Lead) -> bool:
        """Whether `lead` ended by itself; False: the Lease was lost."""
        work = asyncio.create_task(lead(leadership))
        keeper = asyncio.create_task(self._keep(leadership))
        lost, stopped = False, True
        try:
            await asyncio.wait({work, keeper}, return_when=asyncio.FIRST_COMPLETED)
            stopped = False
        finally:
            # Work that ended because it was not allowed to write has noticed before the keeper.
            lost = keeper.done() or not leadership.valid()
            if lost:
                leadership._end()
            work.cancel()
            await asyncio.wait({work})
            leadership._end()
            keeper.cancel()
            await asyncio.wait({keeper})
            if not lost:
                await self._release()
            if (lost or stopped) and not work.cancelled() and (error := work.exception()) is not None:
                # It was over anyway, but errors while it ended must be seen.
                self._log.warning("the leader's work did not end well", exc_info=error)
        if not keeper.cancelled():
            keeper.result()
        if not lost:
            work.result()
        return not lost

    async def _keep(self, leadership: Leadership) -> None:
        """Renew until the Lease is lost."""
        loop = asyncio.get_running_loop()
        while leadership.valid():
            try:
                async with asyncio.timeout_at(leadership.until):
                    await asyncio.sleep(self._timings.retry)
                    sent = loop.time()
                    held = await self._claim()
            except TimeoutError:
                break
            if held:
                leadership._renew(sent + self._timings.renew)
            elif held is False:
                self._log.warning("lost the lease to another", leader=self.holder)
                return
        self._log.warning("could not renew the lease in time", renew_seconds=self._timings.renew)

    async def _claim(self) -> bool | None:
        """Try once to take or renew the Lease. True: it is ours. False: somebody else holds it. None: unknown."""
        try:
            # Half, so that a request that hangs leaves time for another one.
            async with asyncio.timeout(self._timings.renew / 2):
                held = await self._try()
        except (MoorageError, TimeoutError) as error:
            # A conflict is no failure: somebody was faster, and the next attempt reads the new state.
            if not (isinstance(error, ApiError) and error.status in CONFLICTS) and not self._silent:
                # Once, not at every attempt.
                why = str(error) or f"no answer for {self._timings.renew / 2:g} s"
                self._log.warning("cannot claim the lease", error=why, retry_seconds=self._timings.retry)
                self._silent = True
            return None
        self._silent = False
        return held

    async def _try(self) -> bool:
        if self.holder == self._identity:
            # If this succeeds, nobody has changed it, so one request is enough.
            try:
                await self._write()
            except ApiError as error:
                if error.status not in CONFLICTS:
                    raise
            else:
                return True
        try:
            self._see(await self._client.get(Lease, self._namespace, self._name))
        except ApiError as error:
            if error.status != 404:
                raise
            # Somebody has deleted it while we hold it; we go on until our deadline.
            if self._others():
                return False
            self._lease = None
        if self._others():
            return False
        await self._write()
        return True

    def _others(self) -> bool:
        """Whether somebody else held the Lease when it was last seen, and may still lead."""
        return asyncio.get_running_loop().time() < self._expires_at()

    def _expires_at(self) -> float:
        """Until when somebody else may lead, as far as the Lease was last seen; 0: nobody else holds it."""
        if self._lease is None or self.holder in ("", self._identity):
            return 0.0
        seconds = self._lease.spec.lease_duration_seconds
        return self._changed_at + (self._timings.lease if seconds is None else float(seconds))

    async def _write(self) -> None:
        old = self._lease.spec if self._lease is not None else None
        now = self._now()
        renewal = old is not None and old.holder_identity == self._identity
        transitions = (old.lease_transitions or 0) + (not renewal) if old is not None else 0
        spec = LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=math.ceil(self._timings.lease),
            acquire_time=(old.acquire_time if old is not None and renewal else None) or now,
            renew_time=now,
            lease_transitions=transitions,
        )
        self._sent = True
        try:
            if self._lease is None:
                metadata = ObjectMeta(name=self._name, namespace=self._namespace)
                written = await self._client.create(Lease(metadata=metadata, spec=spec))
            else:
                written = await self._patch(self._lease, spec)
        except ApiError as error:
            # After a 5xx it may have been written anyway.
            self._sent = error.status >= 500
            raise
        self._sent = False
        self._see(written)

    async def _patch(self, old: Lease, spec: LeaseSpec) -> Lease:
        metadata = {"uid": old.metadata.uid, "resourceVersion": old.metadata.resource_version}
        return await self._client.patch(Lease, self._namespace, self._name, {"metadata": metadata, "spec": spec})

    def _see(self, lease: Lease) -> None:
        old, self._lease = self._lease, lease
        if old is None or old.metadata.uid != lease.metadata.uid or old.spec != lease.spec:
            # The time of the answer, not of the request: the record may seem younger than it is, but not older.
            self._changed_at = asyncio.get_running_loop().time()
        if old is None or old.spec.holder_identity != lease.spec.holder_identity:
            self._log.info("the lease changed hands", leader=self.holder)
            self._on_leader(self.holder)

    async def _release(self) -> None:
        """Give the Lease back if it is ours, within the retry period."""
        try:
            async with asyncio.timeout(self._timings.retry):
                while not await self._released():
                    pass
        except (MoorageError, TimeoutError) as error:
            self._log.warning("cannot give the lease back; it expires", error=str(error) or "no answer in time")

    async def _released(self) -> bool:
        """Try once; False if somebody else, or a renewal of ours, came in between."""
        if self._sent or self._lease is None:
            try:
                self._see(await self._client.get(Lease, self._namespace, self._name))
            except ApiError as error:
                if error.status == 404:
                    return True
                raise
        self._sent = False
        if self.holder != self._identity or self._lease is None:
            return True
        now = self._now()
        spec = LeaseSpec(
            holder_identity="",
            lease_duration_seconds=1,
            acquire_time=now,
            renew_time=now,
            lease_transitions=self._lease.spec.lease_transitions,
        )
        try:
            self._see(await self._patch(self._lease, spec))
        except ApiError as error:
            if error.status != 409:
                raise
            self._sent = True
            return False
        return True


def process_identity() -> str:
    """A unique identity that tells people where the process runs: `HOST_UUID`, as in client-go."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"
