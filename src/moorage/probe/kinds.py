"""The kinds of checks, as the prober drives them: begun, told of, aborted."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Generic, Protocol, TypeVar

from moorage.probe.check import Check, Target
from moorage.probe.http import get
from moorage.probe.tcp import Connects


class Job(Protocol):
    """What is checked; equal only to itself."""

    @property
    def target(self) -> Target: ...

    @property
    def check(self) -> Check: ...


J = TypeVar("J", bound=Job)
J_contra = TypeVar("J_contra", bound=Job, contravariant=True)

Result = str | Exception | None
"""None: success. Text: the endpoint's failure. Exception: the check could not be made, or has a bug."""
Ended = Callable[[J, Result], None]


class Checks(Protocol[J_contra]):
    """Checks of one kind. Each that is begun and not aborted is told of once, and not from within `begin`."""

    def begin(self, job: J_contra) -> None:
        """May raise: the check is over then, and nobody is told."""

    def abort(self, job: J_contra) -> None: ...

    def poll(self) -> None:
        """Tells now of those that have ended, rather than in the event loop's next turn."""

    def close(self) -> None: ...


class TcpChecks(Generic[J]):
    """A TCP connection can be opened."""

    def __init__(self, ended: Ended[J]) -> None:
        self._connects: Connects[J] = Connects(ended)
        self.abort = self._connects.abort
        self.poll = self._connects.poll
        self.close = self._connects.close

    def begin(self, job: J) -> None:
        self._connects.begin(job, *job.target)


class HttpChecks(Generic[J]):
    """A GET is answered with an expected status."""

    def __init__(self, ended: Ended[J]) -> None:
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[J, asyncio.Task[str | None]] = {}

    def begin(self, job: J) -> None:
        assert job.check.http is not None
        task = self._loop.create_task(get(job.target, job.check.http))
        self._tasks[job] = task
        task.add_done_callback(partial(self._done, job))

    def abort(self, job: J) -> None:
        task = self._tasks.pop(job, None)
        if task is not None:
            task.cancel()

    def poll(self) -> None:
        """Tasks tell by themselves."""

    def close(self) -> None:
        for job in list(self._tasks):
            self.abort(job)

    def _done(self, job: J, task: asyncio.Task[str | None]) -> None:
        if self._tasks.get(job) is not task:
            return  # aborted
        del self._tasks[job]
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self._ended(job, task.result())
        else:
            self._ended(job, error if isinstance(error, Exception) else RuntimeError(repr(error)))
