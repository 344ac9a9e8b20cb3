"""Moorings that the API server does not take: remembered, tried again with back-off, and told."""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Literal

from moorage.cluster.backoff import backoff
from moorage.core.model import Complaint

Reason = Literal["QuotaExceeded", "WriteRefused"]
FIRST_SECONDS, LONGEST_SECONDS = 2.0, 300.0
QUOTA = "exceeded quota"
"""In what kube-apiserver says (admission plugin ResourceQuota); its reason is Forbidden, as many others' is."""


@dataclass(slots=True)
class _Refusal:
    reason: Reason
    message: str
    failures: int
    until: float


class Refusals:
    """Of one group, by name of the Mooring. `now` is the event loop's clock."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._refusals: dict[str, _Refusal] = {}
        self._jitter = jitter

    def add(self, name: str, message: str, now: float) -> Reason:
        """The API server has refused to make or change this Mooring, with these words. Returns what for."""
        reason: Reason = "QuotaExceeded" if QUOTA in message else "WriteRefused"
        failures = self._refusals[name].failures + 1 if name in self._refusals else 1
        wait = backoff(failures, self._jitter(), first=FIRST_SECONDS, longest=LONGEST_SECONDS)
        self._refusals[name] = _Refusal(reason, message, failures, now + wait)
        return reason

    def share(self, name: str, other: str) -> None:
        """This one would be refused as `other` was."""
        self._refusals[name] = self._refusals[other]

    def keep(self, names: Collection[str]) -> None:
        """These are still to be written; what was refused of others does not matter any more."""
        self._refusals = {name: each for name, each in self._refusals.items() if name in names}

    def drop(self, name: str) -> None:
        """It has been written."""
        self._refusals.pop(name, None)

    def holds(self, name: str, now: float) -> bool:
        """Whether it is not to be tried yet."""
        found = self._refusals.get(name)
        return found is not None and found.until > now

    def wait(self, now: float) -> float | None:
        """Seconds until the next is to be tried; None: there is none."""
        return min((max(0.0, each.until - now) for each in self._refusals.values()), default=None)

    def __len__(self) -> int:
        return len(self._refusals)

    def problems(self) -> tuple[Complaint, ...]:
        """One for each reason, with the words about the first by name."""
        found = []
        for reason, advice in (
            ("QuotaExceeded", "raise the quota, or delete what uses it up"),
            ("WriteRefused", "see who refuses it"),
        ):
            names = sorted(name for name, each in self._refusals.items() if each.reason == reason)
            if names:
                which = f"Mooring {names[0]}" + (f" and {len(names) - 1} more" if len(names) > 1 else "")
                said = self._refusals[names[0]].message.rstrip(".")
                found.append(Complaint(reason, f"{which} cannot be written: {said}; {advice}"))
        return tuple(found)
