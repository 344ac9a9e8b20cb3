"""Checks every endpoint on its own schedule."""

import asyncio
import heapq
import random
import resource
from collections import OrderedDict
from collections.abc import Callable, Mapping

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.log import get_logger
from moorage.probe.check import Check, Target
from moorage.probe.kinds import Checks, Ended, HttpChecks, Result, TcpChecks
from moorage.probe.slots import Slots
from moorage.probe.tcp import is_local_failure, words

MAX_TCP_CHECKS = 8192
MAX_HTTP_CHECKS = 512
"""With TLS each may take 100 KiB. A namespace gets at most half of them."""
OPEN_FILES = 3 * MAX_TCP_CHECKS
"""Enough for all these checks and the rest of the process."""
RLIMIT = resource.RLIMIT_NOFILE
JITTER = 0.05
"""The interval is shortened by up to this share, so that checks do not stay in step with anything."""
TICK_SECONDS = 0.005
"""Checks that are due this soon after another one begin together with it: that saves turns of the event loop."""
BATCH = 64
"""How many checks to begin before other tasks have their turn of the event loop."""
HELD_UP_SECONDS = 0.05
"""If this process notices a time-out this late, it looks once more whether the answer has come."""
MAX_STALE_ENTRIES = 4096
"""Stale entries in the heap, on top of as many valid ones."""
COMPLAIN_EVERY_SECONDS = 60.0
"""How often to log that checks could not be made."""

_log = get_logger("moorage.probe")


class Scheduled:
    """An endpoint and the state of its checks."""

    __slots__ = (
        "__weakref__",
        "check",
        "due",
        "first",
        "key",
        "name",
        "prolonged",
        "running",
        "started",
        "target",
        "token",
    )

    def __init__(self, key: ObjectKey, name: str, target: Target, check: Check) -> None:
        self.key = key
        self.name = name
        self.target = target
        self.check = check
        self.due = 0.0
        self.started = 0.0
        self.first = True
        self.running = False
        self.prolonged = False
        self.token = 0
        """The token of its one valid entry in the heap."""


class Prober:
    """Checks endpoints until `close`.

    `on_outcome(key, name, outcome)` is called for every check, in the event loop; it may call `set` and `remove`. A
    new or changed endpoint is checked at once; the outcome of a check of its old target is not reported.

    The next check is due an interval after the last one was due, less up to JITTER, no matter when the last one
    began; if a check takes longer than that, the next follows at once. So an endpoint has one check at a time, and
    does not wait for others as long as there are slots: MAX_TCP_CHECKS and MAX_HTTP_CHECKS, or fewer if the process
    may not open so many files. If there are none left, the ExternalServices take turns; none has more than a quarter
    of the slots, and neither it nor its namespace has as many as are free. If more checks are due than can be begun
    at once, the namespaces take turns.

    `on_late(seconds)` is called with how late each check was begun, `on_skipped()` for each check that could not be
    made for lack of files, ports or memory here, which says nothing about the endpoint.
    """

    def __init__(
        self,
        on_outcome: Callable[[ObjectKey, str, Outcome], None],
        *,
        on_late: Callable[[float], None] = lambda seconds: None,
        on_skipped: Callable[[], None] = lambda: None,
        max_tcp_checks: int = MAX_TCP_CHECKS,
        max_http_checks: int = MAX_HTTP_CHECKS,
        jitter: Callable[[], float] = random.random,
        tcp: Callable[[Ended[Scheduled]], Checks[Scheduled]] = TcpChecks,
        http: Callable[[Ended[Scheduled]], Checks[Scheduled]] = HttpChecks,
    ) -> None:
        self._on_outcome = on_outcome
        self._on_late = on_late
        self._on_skipped = on_skipped
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._by_key: dict[ObjectKey, dict[str, Scheduled]] = {}
        self._heap: list[tuple[float, int]] = []
        """(time, token): when the next check is due, or the running one has timed out."""
        self._current: dict[int, Scheduled] = {}
        """By token. Heap entries with other tokens are stale; nothing else keeps dropped endpoints."""
        self._due: OrderedDict[str, OrderedDict[Scheduled, None]] = OrderedDict()
        """Checks that are due but not begun yet, by namespace, in the order of their turns. Not dicts: taking entries
        from the front makes finding the first one slower and slower."""
        self._tidy_at = MAX_STALE_ENTRIES
        self._tokens = 0
        self._timer: asyncio.TimerHandle | None = None
        self._complained = float("-inf")
        self._tcp = tcp(self._ended)
        self._http = http(self._ended)
        files = _files()
        self._tcp_slots = _slots(min(max_tcp_checks, files // 2))
        self._http_slots = _slots(min(max_http_checks, files // 8))

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None:
        """Checks these endpoints of `key`, by name, and no others of it. Unchanged ones are left alone."""
        known = self._by_key.get(key, {})
        new = {}
        for name, target in targets.items():
            old = known.get(name)
            same = old is not None and old.target == target and old.check == check
            new[name] = known.pop(name) if same else Scheduled(key, name, target, check)
        self._drop(known)
        self._by_key[key] = new
        now = self._loop.time()
        for each in new.values():
            if not each.token:
                each.due = now
                self._push(each, now)

    def remove(self, key: ObjectKey) -> None:
        """Stops checking the endpoints of `key`."""
        self._drop(self._by_key.pop(key, {}))

    def close(self) -> None:
        """Ends all checks, without outcomes."""
        self._by_key.clear()
        self._heap.clear()
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._tcp.close()
        self._http.close()

    def _drop(self, endpoints: Mapping[str, Scheduled]) -> None:
        for each in endpoints.values():
            self._current.pop(each.token, None)
            each.token = 0
            self._take_due(each)
            self._slots_of(each).withdraw(each.key, each)
        for each in endpoints.values():
            if each.running:
                self._checks_of(each).abort(each)
                each.running = False
                self._give_back(each)

    # --- when -------------------------------------------------------------------------------------------------

    def _push(self, each: Scheduled, when: float) -> None:
        self._current.pop(each.token, None)
        self._tokens += 1
        each.token = self._tokens
        self._current[each.token] = each
        if len(self._heap) >= self._tidy_at:
            # Entries of endpoints that come and go would stay until they are due: up to an hour.
            self._heap = [entry for entry in self._heap if entry[1] in self._current]
            heapq.heapify(self._heap)
            self._tidy_at = 2 * len(self._heap) + MAX_STALE_ENTRIES
        heapq.heappush(self._heap, (when, each.token))
        self._wake_at(max(when, self._loop.time() + TICK_SECONDS))

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._tick)

    def _tick(self) -> None:
        try:
            self._look()
            self._begin_due()
        finally:
            self._timer = None
            if self._due:
                self._wake_at(self._loop.time())
            elif self._heap:
                self._wake_at(max(self._heap[0][0], self._loop.time() + TICK_SECONDS))

    def _look(self) -> None:
        """Finds checks that are due, and checks that have timed out."""
        self._tcp.poll()  # An answer that came in time counts, however late we look.
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            when, token = heapq.heappop(self._heap)
            each = self._current.get(token)
            if each is None:
                continue
            if each.running:
                self._timed_out(each, now, now - when)
            else:
                self._due.setdefault(each.key.namespace, OrderedDict())[each] = None

    def _begin_due(self) -> None:
        """Begins due checks, one of each namespace in turn: a namespace with many of them only delays itself."""
        for _ in range(BATCH):
            if not self._due:
                break
            namespace = next(iter(self._due))
            each = next(iter(self._due[namespace]))
            self._take_due(each)
            if namespace in self._due:
                self._due.move_to_end(namespace)
            self._ask(each)
        self._tcp.poll()

    def _take_due(self, each: Scheduled) -> None:
        items = self._due.get(each.key.namespace)
        if items is not None:
            items.pop(each, None)
            if not items:
                del self._due[each.key.namespace]

    def _after(self, each: Scheduled) -> None:
        """Plans the next check."""
        if each.first:
            # So that checks that began together spread over the interval.
            each.first = False
            gap = each.check.interval * self._jitter()
        else:
            gap = each.check.interval * (1 - JITTER * self._jitter())
        due = each.due + gap
        if due <= each.started:
            due = each.started + gap  # Missed checks are not made up for.
        each.due = max(due, self._loop.time())
        self._push(each, each.due)

    # --- one check --------------------------------------------------------------------------------------------

    def _ask(self, each: Scheduled) -> None:
        if self._slots_of(each).take(each.key, each) and not self._begin(each):
            self._give_back(each)

    def _give_back(self, each: Scheduled) -> None:
        slots = self._slots_of(each)
        following = slots.give_back(each.key)
        for one in following:
            if not one.token or not self._begin(one):  # dropped meanwhile, or not to be begun
                following += slots.give_back(one.key)

    def _begin(self, each: Scheduled) -> bool:
        """Begins a check. Returns whether it was begun; if not, its slot is free."""
        each.started = self._loop.time()
        try:
            self._on_late(each.started - each.due)
            self._checks_of(each).begin(each)
        except Exception as error:
            self._after(each)
            self._tell(each, error)
            return False
        each.running = True
        each.prolonged = False
        self._push(each, each.started + each.check.timeout)
        return True

    def _timed_out(self, each: Scheduled, now: float, late: float) -> None:
        if late > HELD_UP_SECONDS and not each.prolonged:
            # The answer may have come while this process did not get to run.
            each.prolonged = True
            self._push(each, now + min(late, each.check.timeout))
            return
        waited = self._checks_of(each).abort(each)
        self._ended(each, f"no answer within {each.check.timeout:g} s{f'; {waited}' if waited else ''}")

    def _ended(self, each: Scheduled, result: Result) -> None:
        each.running = False
        self._after(each)
        self._give_back(each)
        self._tell(each, result)

    def _tell(self, each: Scheduled, result: Result) -> None:
        try:
            if isinstance(result, OSError) and is_local_failure(result, each.target.address):
                self._complain("checks cannot be made", each, result)
                self._on_skipped()
                return
            if isinstance(result, OSError) and result.errno:
                result = words(result.errno)
            elif isinstance(result, Exception):
                self._complain("a check failed because of a bug in Moorage", each, result)
                result = f"internal error: {type(result).__name__}; the operator's log says more"
            outcome = Outcome(result is None, result, self._loop.time() - each.started)
            self._on_outcome(each.key, each.name, outcome)
        except Exception:
            _log.exception("the outcome of a check was not taken", key=str(each.key), endpoint=each.name)

    def _complain(self, what: str, each: Scheduled, error: Exception) -> None:
        if self._loop.time() - self._complained >= COMPLAIN_EVERY_SECONDS:
            self._complained = self._loop.time()
            _log.error(what, key=str(each.key), endpoint=each.name, exc_info=error)

    def _checks_of(self, each: Scheduled) -> Checks[Scheduled]:
        return self._tcp if each.check.http is None else self._http

    def _slots_of(self, each: Scheduled) -> Slots[Scheduled]:
        return self._tcp_slots if each.check.http is None else self._http_slots


def _files() -> int:
    """Raises the limit on open files as far as needed. Returns how many this process may have."""
    soft, hard = (OPEN_FILES if each == resource.RLIM_INFINITY else each for each in resource.getrlimit(RLIMIT))
    if soft < OPEN_FILES:
        # The soft limit is often 1,024, because of select(2), which nothing here uses.
        soft = min(OPEN_FILES, hard)
        resource.setrlimit(RLIMIT, (soft, resource.getrlimit(RLIMIT)[1]))
    return soft


def _slots(most: int) -> Slots[Scheduled]:
    return Slots(max(1, most), max(1, most // 4))
