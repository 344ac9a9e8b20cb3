"""Asks the demo's frontend and judges its answers."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import aiohttp

from moorage.api.moorings_v1alpha1 import Mooring
from moorage_lab.narrator import Narrator

SHOWN = 5
"""How many of many answers are printed; more if that takes until a second backend shows."""
REQUEST_SECONDS = 5.0
POLL_SECONDS = 0.02


class Answer(NamedTuple):
    """The result of one request."""

    text: str
    """The frontend's line, or why there is none."""
    backend: str | None
    """The backend pod that answered; None for a failure."""
    frontend: str | None = None
    """The frontend pod that asked it; None for a failure."""
    at: float = 0.0
    """When that was, by time.monotonic."""


class Frontend:
    """The frontend at `url`. Each request uses a new connection."""

    def __init__(self, url: str, narrator: Narrator) -> None:
        self.url = url
        self._narrator = narrator

    async def ask(self, count: int, *, quiet: bool = False) -> list[Answer]:
        """Make `count` requests, one after another; prints them unless `quiet`."""
        if not quiet:
            self._narrator.command(f"curl {self.url}", f"{count} times" if count > 1 else "")
        async with _session() as session:
            answers = [await _get(session, self.url) for _ in range(count)]
        if not quiet:
            shown = how_many_to_show([answer.backend for answer in answers])
            more = [f"... and {count - shown} more"] if count > shown else []
            self._narrator.output("\n".join([*(answer.text for answer in answers[:shown]), *more]))
        return answers

    async def until(self, holds: Callable[[Sequence[Answer]], bool], seconds: float) -> list[Answer]:
        """Ask again and again, without printing, until `holds` of the answers so far, or for `seconds`."""
        end = time.monotonic() + seconds
        answers: list[Answer] = []
        async with _session() as session:
            while True:
                answers.append(await _get(session, self.url))
                if holds(answers) or time.monotonic() > end:
                    return answers
                await asyncio.sleep(POLL_SECONDS)

    async def until_answer(self, seconds: float) -> Answer:
        """The first answer of a backend, or the last failure: rules and names follow the API with a short delay."""
        return (await self.until(lambda answers: answers[-1].backend is not None, seconds))[-1]

    async def watch(self, seconds: float) -> list[Answer]:
        """Ask again and again for `seconds`, without printing."""
        return await self.until(lambda answers: False, seconds)

    async def until_left(
        self, backend: str, seconds: float, frontends: Collection[str] = ()
    ) -> tuple[float | None, list[Answer]]:
        """Ask again and again until others than `backend`, a Deployment, answer each of these frontend pods; without
        any, whichever asks.

        Returns the seconds from its last answer to the first of another, for the frontend that waited the longest
        (None if that does not come in time), and all answers.
        """
        began = time.monotonic()

        def left(answers: Sequence[Answer]) -> float | None:
            return waited(answers, backend, began, frontends)

        answers = await self.until(lambda answers: left(answers) is not None, seconds)
        return left(answers), answers


def waited(answers: Sequence[Answer], backend: str, began: float, frontends: Collection[str] = ()) -> float | None:
    """The seconds from the last answer of `backend`, a Deployment, or since `began`, to the first of another.

    That is for the one of these frontend pods that waited the longest; without any, for whichever asked. None: one of
    them still waits.
    """
    of_each = [[each for each in answers if each.frontend == name] for name in frontends] or [list(answers)]
    found = [_waited(each, backend, began) for each in of_each]
    return None if None in found else max(each for each in found if each is not None)


def _waited(answers: Sequence[Answer], backend: str, began: float) -> float | None:
    last = began
    for each in answers:
        if each.backend is not None:
            if deployment_of(each.backend) != backend:
                return each.at - last
            last = each.at
    return None


def _session() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), timeout=timeout)


async def _get(session: aiohttp.ClientSession, url: str) -> Answer:
    try:
        async with session.get(url) as response:
            text = (await response.text()).strip()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Answer(f"no answer: {' '.join(str(error).split()) or type(error).__name__}", None)
    found = re.fullmatch(r"frontend\[([^]]+)] -> backend\[([^]]+)]", text)
    if found is None or response.status != 200:
        return Answer(text, None)
    return Answer(text, backend=found[2], frontend=found[1], at=time.monotonic())


def deployment_of(pod: str) -> str:
    """The Deployment of a pod, from the pod's name: `backend1` for `backend1-54467975d9-sp2h2`."""
    return pod.rsplit("-", 2)[0]


def place_of(mooring: Mooring) -> str:
    """The Deployment of the backend that a client is moored to."""
    return mooring.spec.endpoint.removesuffix("-lb")


def check_one_backend(narrator: Narrator, answers: Sequence[Answer]) -> str | None:
    """Check that one backend gave all answers. Returns that backend; None if there is none."""
    backends = {answer.backend for answer in answers}
    backend = backends.pop() if len(backends) == 1 else None
    narrator.check(
        backend is not None,
        f"{len(answers)} requests, all answered by {backend}",
        f"{len(answers)} requests, not all answered by one backend: {shares(answers)}",
    )
    return backend


def how_many_to_show(backends: Sequence[str | None]) -> int:
    """How many of these answers to print: `SHOWN`, or more if it takes longer until a second outcome shows."""
    second = next((i for i, backend in enumerate(backends) if backend != backends[0]), 0)
    return min(max(SHOWN, second + 1), len(backends))


def shares(answers: Sequence[Answer]) -> str:
    """`backend1-... 19, backend2-... 21`, and the first failure, if there is one."""
    counts = Counter(answer.backend for answer in answers)
    found = [f"{backend} {count}" for backend, count in sorted(counts.items(), key=str) if backend]
    if None in counts:
        found.append(f"failed {counts[None]} ({next(answer.text for answer in answers if answer.backend is None)})")
    return ", ".join(found)
