"""Schedules on a virtual clock with scripted checks; at the end the real ones, on loopback."""

import asyncio
import errno
import gc
import os
import resource
import socket
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.probe import prober as module
from moorage.probe.check import Check, Http, Target
from moorage.probe.kinds import Ended, Result
from moorage.probe.prober import BATCH, TICK_SECONDS, Prober, Scheduled
from testing.eventually import eventually

KEY = ObjectKey("frontend", "backend")
TCP = Check(interval=2.0, timeout=1.0)
NEVER = float("inf")


class Script:
    """How long checks of an address take, and how they end; what was begun, and what was told."""

    def __init__(self) -> None:
        self.takes: dict[str, float] = {}
        """Seconds; 1 ms if it is not here."""
        self.results: dict[str, Result] = {}
        self.raises: dict[str, Exception] = {}
        self.begun: dict[str, list[float]] = defaultdict(list)
        """By address: when."""
        self.aborted: list[str] = []
        self.running: dict[Scheduled, object] = {}
        """And which of its checks."""
        self.most = 0
        """Running at once."""
        self.told: list[tuple[ObjectKey, str, bool, str | None]] = []
        self.waited: str | None = None
        """What those are at that are aborted."""
        self.late: list[float] = []
        self.skipped = 0

    def checks(self, ended: Ended[Scheduled]) -> "ScriptedChecks":
        return ScriptedChecks(self, ended)

    def prober(self, jitter: Callable[[], float] = lambda: 0.0, most: int = 1000) -> Prober:
        return Prober(
            self.tell,
            on_late=self.late.append,
            on_skipped=self.skip,
            max_tcp_checks=most,
            jitter=jitter,
            tcp=self.checks,
            http=self.checks,
        )

    def tell(self, key: ObjectKey, name: str, outcome: Outcome) -> None:
        self.told.append((key, name, outcome.success, outcome.message))

    def skip(self) -> None:
        self.skipped += 1

    def failures(self, name: str) -> list[str | None]:
        return [message for _, each, success, message in self.told if each == name and not success]


class ScriptedChecks:
    def __init__(self, script: Script, ended: Ended[Scheduled]) -> None:
        self._script = script
        self._ended = ended
        self._loop = asyncio.get_running_loop()

    def begin(self, job: Scheduled) -> None:
        script, address = self._script, job.target.address
        script.begun[address].append(self._loop.time())
        if address in script.raises:
            raise script.raises[address]
        assert job not in script.running, "two checks of one endpoint"
        script.running[job] = this = object()
        script.most = max(script.most, len(script.running))
        takes = script.takes.get(address, 0.001)
        if takes != NEVER:
            self._loop.call_later(takes, self._end, job, this)

    def _end(self, job: Scheduled, this: object) -> None:
        if self._script.running.get(job) is this:
            del self._script.running[job]
            self._ended(job, self._script.results.get(job.target.address))

    def abort(self, job: Scheduled) -> str | None:
        self._script.aborted.append(job.target.address)
        self._script.running.pop(job, None)
        return self._script.waited

    def poll(self) -> None: ...

    def close(self) -> None:
        self._script.running.clear()


@pytest.fixture
def script() -> Script:
    return Script()


def endpoints(*addresses: str) -> dict[str, Target]:
    return {f"at-{address}": Target(address, 80) for address in addresses}


# --- when ---------------------------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_the_first_check_is_at_once_and_the_others_never_drift(script: Script) -> None:
    prober = script.prober(jitter=lambda: 0.0)
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(2001)
    begun = script.begun["a"]
    assert begun[0] <= TICK_SECONDS
    assert len(begun) == pytest.approx(1001, abs=2)
    for number, when in enumerate(begun[1:]):
        assert when == pytest.approx(2.0 * number, abs=3 * TICK_SECONDS)
    assert script.told[0] == (KEY, "at-a", True, None)


@pytest.mark.looptime
async def test_checks_that_begin_late_do_not_shift_those_that_follow(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TICK_SECONDS", 0.3)
    shares = iter([number / 50 for number in range(50)])
    prober = script.prober(jitter=lambda: next(shares, 0.0))
    prober.set(KEY, endpoints(*(str(number) for number in range(50))), Check(interval=1.0, timeout=0.5))
    await asyncio.sleep(100.5)
    assert max(script.late) > 0.2
    for begun in script.begun.values():
        assert len(begun) == pytest.approx(101, abs=1)


@pytest.mark.looptime
@pytest.mark.parametrize("jitter", [0.0, 0.3, 0.999])
async def test_jitter_only_shortens_the_interval(script: Script, jitter: float) -> None:
    prober = script.prober(jitter=lambda: jitter)
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(60)
    for before, after in pairwise(script.begun["a"][1:]):
        assert 2.0 * (1 - 0.05 * jitter) - 2 * TICK_SECONDS <= after - before <= 2.0 + 2 * TICK_SECONDS
        assert after - before == pytest.approx(2.0 * (1 - 0.05 * jitter), abs=2 * TICK_SECONDS)


@pytest.mark.looptime
async def test_what_began_together_is_spread_over_the_interval(script: Script) -> None:
    shares = iter(number / 100 for number in range(10_000))
    prober = script.prober(jitter=lambda: next(shares) % 1)
    prober.set(KEY, endpoints(*(str(number) for number in range(100))), TCP)
    await asyncio.sleep(2.5)
    seconds = sorted(begun[1] for begun in script.begun.values())
    for fifth in range(5):
        assert sum(0.4 * fifth <= when < 0.4 * (fifth + 1) for when in seconds) == pytest.approx(20, abs=2)


async def test_many_new_ones_leave_the_event_loop_to_others_in_between(script: Script) -> None:
    prober = script.prober(jitter=lambda: 0.9)
    turns: list[int] = []
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def others() -> None:
        turns.append(len(script.begun))
        if len(script.begun) < 500:
            loop.call_soon(others)
        else:
            done.set()

    prober.set(KEY, endpoints(*(str(number) for number in range(500))), TCP)
    loop.call_soon(others)
    await done.wait()
    prober.close()
    assert max(after - before for before, after in pairwise(turns)) <= BATCH


async def test_one_namespace_with_many_does_not_come_before_all_others(script: Script) -> None:
    prober = script.prober()
    prober.set(ObjectKey("greedy", "many"), endpoints(*(str(number) for number in range(10 * BATCH))), TCP)
    prober.set(KEY, endpoints("a", "b"), TCP)
    prober.set(ObjectKey("greedy", "more"), endpoints("last"), TCP)
    done = asyncio.Event()
    when: list[int] = []

    def look() -> None:
        if {"a", "b"} <= script.begun.keys():
            when.append(len(script.begun))
            done.set()
        else:
            asyncio.get_running_loop().call_soon(look)

    look()
    await done.wait()
    prober.close()
    assert when[0] <= BATCH
    assert "last" not in script.begun


@pytest.mark.looptime
async def test_a_slow_endpoint_delays_no_other(script: Script) -> None:
    script.takes["slow"] = NEVER
    prober = script.prober()
    prober.set(KEY, endpoints("slow", "quick"), Check(interval=2.0, timeout=2.0))
    await asyncio.sleep(20)
    assert max(script.late) <= 2 * TICK_SECONDS
    assert len(script.begun["quick"]) >= 10
    assert script.failures("at-quick") == []


@pytest.mark.looptime
async def test_a_check_that_takes_its_interval_is_followed_by_the_next_at_once(script: Script) -> None:
    script.takes["slow"] = NEVER
    prober = script.prober(jitter=lambda: 0.9)
    prober.set(KEY, endpoints("slow"), Check(interval=2.0, timeout=2.0))
    await asyncio.sleep(20)
    assert len(script.begun["slow"]) == 10
    for before, after in pairwise(script.begun["slow"]):
        assert after - before == pytest.approx(2.0, abs=3 * TICK_SECONDS)


@pytest.mark.looptime
async def test_what_is_not_answered_in_time_has_failed_and_is_ended(script: Script) -> None:
    script.takes["silent"] = NEVER
    prober = script.prober()
    prober.set(KEY, endpoints("silent"), TCP)
    await asyncio.sleep(0.9)
    assert script.told == []
    await asyncio.sleep(0.2)
    assert script.told == [(KEY, "at-silent", False, "no answer within 1 s")]
    assert script.aborted == ["silent"]


@pytest.mark.looptime
async def test_how_long_a_check_took_is_told(script: Script) -> None:
    told: list[Outcome] = []
    script.takes = {"a": 0.25, "silent": NEVER}
    prober = Prober(
        lambda key, name, outcome: told.append(outcome), jitter=lambda: 0.9, tcp=script.checks, http=script.checks
    )
    await asyncio.sleep(100)
    prober.set(KEY, endpoints("a", "silent"), Check(interval=10.0, timeout=1.0))
    await asyncio.sleep(1.5)
    prober.close()
    assert [each.seconds for each in told] == pytest.approx([0.25, 1.0], abs=2 * TICK_SECONDS)


@pytest.mark.looptime
async def test_what_waited_for_others_until_its_time_was_over_says_so(script: Script) -> None:
    script.takes["slow"] = NEVER
    script.waited = "it waited for its turn"
    prober = script.prober()
    prober.set(KEY, endpoints("slow"), TCP)
    await asyncio.sleep(1.5)
    assert script.failures("at-slow") == ["no answer within 1 s; it waited for its turn"]


# --- changes ------------------------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_what_is_as_it_was_keeps_its_schedule(script: Script) -> None:
    prober = script.prober()
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(3)
    prober.set(KEY, endpoints("a", "new"), TCP)
    await asyncio.sleep(0.5)
    assert len(script.begun["a"]) == 3
    assert script.begun["new"][0] == pytest.approx(3, abs=2 * TICK_SECONDS)


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("targets", "check"),
    [
        ({"at-a": Target("b", 80)}, TCP),
        ({"at-a": Target("a", 81)}, TCP),
        ({"at-a": Target("a", 80)}, TCP._replace(interval=5.0)),
        ({"at-a": Target("a", 80)}, TCP._replace(http=Http())),
    ],
)
async def test_what_has_changed_is_checked_at_once_and_hears_nothing_of_before(
    script: Script, targets: dict[str, Target], check: Check
) -> None:
    script.takes["a"] = 0.5
    script.results["a"] = "of before"
    prober = script.prober(jitter=lambda: 0.9)
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(0.2)
    script.results.clear()
    prober.set(KEY, targets, check)
    await asyncio.sleep(0.1)
    begun = sum(len(each) for each in script.begun.values())
    assert (begun, script.aborted) == (2, ["a"])
    await asyncio.sleep(0.6)
    assert script.told
    assert script.failures("at-a") == []


@pytest.mark.looptime
async def test_what_is_removed_is_not_checked_and_not_told(script: Script) -> None:
    script.takes["a"] = 0.5
    prober = script.prober()
    prober.set(KEY, endpoints("a", "b"), TCP)
    await asyncio.sleep(0.1)
    prober.set(KEY, endpoints("b"), TCP)
    prober.set(ObjectKey("frontend", "other"), endpoints("c"), TCP)
    await asyncio.sleep(1)
    prober.remove(KEY)
    prober.remove(ObjectKey("frontend", "never set"))
    before = len(script.begun["b"])
    await asyncio.sleep(10)
    assert (len(script.begun["a"]), len(script.begun["b"])) == (1, before)
    assert all(name != "at-a" for _, name, _, _ in script.told)
    assert len(script.begun["c"]) > 4


@pytest.mark.looptime
async def test_who_is_told_may_set_and_remove(script: Script) -> None:
    def tell(key: ObjectKey, name: str, outcome: Outcome) -> None:
        script.tell(key, name, outcome)
        if name == "at-a":
            prober.set(KEY, endpoints("b"), TCP)
        else:
            prober.remove(KEY)

    prober = Prober(tell, tcp=script.checks, http=script.checks)
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(10)
    assert [name for _, name, _, _ in script.told] == ["at-a", "at-b"]


@pytest.mark.looptime
async def test_after_close_nothing_is_checked_or_told(script: Script) -> None:
    script.takes["slow"] = 0.5
    prober = script.prober(jitter=lambda: 0.9)
    prober.set(KEY, endpoints("slow", "quick"), TCP)
    await asyncio.sleep(0.1)
    told = list(script.told)
    prober.close()
    await asyncio.sleep(10)
    assert script.told == told
    assert sum(len(each) for each in script.begun.values()) == 2


# --- slots --------------------------------------------------------------------------------------------------------


@pytest.mark.looptime
async def test_no_more_checks_run_at_once_than_there_are_slots(script: Script) -> None:
    addresses = [str(number) for number in range(100)]
    script.takes = dict.fromkeys(addresses, 0.1)
    prober = script.prober(most=20)
    for number, address in enumerate(addresses):
        prober.set(ObjectKey("frontend", f"x{number % 10}"), endpoints(address), TCP)
        prober.set(ObjectKey(address, "x"), endpoints(address), TCP)
    await asyncio.sleep(10)
    assert script.most == 20
    assert all(len(begun) >= 4 for begun in script.begun.values())


@pytest.mark.looptime
async def test_an_externalservice_that_is_slow_leaves_slots_to_the_others(script: Script) -> None:
    slow = [f"slow{number}" for number in range(100)]
    script.takes = dict.fromkeys(slow, NEVER)
    prober = script.prober(most=8)
    prober.set(ObjectKey("tenant", "slow"), endpoints(*slow), Check(interval=300.0, timeout=300.0))
    prober.set(KEY, endpoints("quick"), TCP)
    await asyncio.sleep(20)
    begun = script.begun["quick"]
    assert len(begun) >= 10
    assert max(script.late) <= 2 * TICK_SECONDS
    assert sum(len(script.begun[address]) for address in slow) == 2
    prober.remove(ObjectKey("tenant", "slow"))
    assert sum(len(script.begun[address]) for address in slow) == 2, "none is begun only to be ended"
    await asyncio.sleep(20)
    assert len(script.begun["quick"]) >= 20


@pytest.mark.looptime
async def test_tenants_whose_endpoints_hang_leave_slots_to_the_others(script: Script) -> None:
    slow = [f"slow{number}" for number in range(20)]
    script.takes = dict.fromkeys(slow, NEVER)
    prober = script.prober(most=64)
    for number in range(100):
        prober.set(
            ObjectKey(f"tenant{number % 4}", f"slow{number}"), endpoints(*slow), Check(interval=300.0, timeout=300.0)
        )
    prober.set(KEY, endpoints("quick"), TCP)
    await asyncio.sleep(20)
    assert len(script.begun["quick"]) >= 10
    assert max(script.late) <= 2 * TICK_SECONDS


@pytest.mark.looptime
async def test_the_slots_of_checks_that_are_dropped_are_free_again(script: Script) -> None:
    script.takes = {"slow": NEVER}
    prober = script.prober(most=8)
    tenant = ObjectKey("tenant", "slow")
    for _ in range(20):
        prober.set(tenant, endpoints("slow"), Check(interval=300.0, timeout=300.0))
        await asyncio.sleep(1)
        prober.remove(tenant)
    assert len(script.begun["slow"]) == 20


@pytest.mark.looptime
async def test_what_is_dropped_while_it_waits_for_a_slot_is_not_kept(script: Script) -> None:
    script.takes = {"slow": NEVER}
    prober = script.prober(most=4)
    tenant = ObjectKey("tenant", "slow")
    hanging = endpoints("slow") | {f"more{number}": Target("slow", 80) for number in range(3)}
    for number in range(50):
        waiting = {f"{number}-{each}": Target("slow", 81) for each in range(20)}
        prober.set(tenant, hanging | waiting, Check(interval=300.0, timeout=300.0))
        await asyncio.sleep(1)
    gc.collect()
    kept = sum(isinstance(each, Scheduled) for each in gc.get_objects())
    assert kept <= len(hanging | waiting) + 1


@pytest.mark.looptime
async def test_what_was_dropped_is_not_kept_until_it_would_have_been_due(script: Script) -> None:
    kept: list[weakref.ref[Scheduled]] = []

    class Noted(ScriptedChecks):
        def begin(self, job: Scheduled) -> None:
            kept.append(weakref.ref(job))
            super().begin(job)

    prober = Prober(
        script.tell,
        jitter=lambda: 1.0,  # else a second check may come within the first second
        tcp=lambda ended: Noted(script, ended),
        http=lambda ended: ScriptedChecks(script, ended),
    )
    for number in range(3):
        prober.set(KEY, endpoints("a"), Check(interval=3600.0 + number))
        await asyncio.sleep(1)
    gc.collect()
    assert [each() is None for each in kept] == [True, True, False]


@pytest.mark.looptime
async def test_endpoints_that_come_and_go_leave_nothing_behind(script: Script) -> None:
    prober = script.prober(jitter=lambda: 1.0)
    for number in range(300):
        prober.set(KEY, endpoints(*(f"{number}-{each}" for each in range(100))), Check(interval=3600.0))
        await asyncio.sleep(1)
    assert len(prober._heap) <= 2 * module.MAX_STALE_ENTRIES


# --- what goes wrong here -------------------------------------------------------------------------------------------


@pytest.mark.looptime
@pytest.mark.parametrize("way", ["raised", "told"])
async def test_a_bug_in_a_check_is_a_failure_and_ends_nothing(script: Script, way: str) -> None:
    bug = KeyError("bug")
    if way == "raised":
        script.raises["a"] = bug
    else:
        script.results["a"] = bug
    prober = script.prober()
    prober.set(KEY, endpoints("a", "b"), TCP)
    await asyncio.sleep(9)
    assert script.failures("at-a") == ["internal error: KeyError; the operator's log says more"] * 6
    assert script.failures("at-b") == []
    assert len(script.begun["b"]) == 6


@pytest.mark.looptime
async def test_a_want_of_files_here_says_nothing_of_the_endpoint(script: Script) -> None:
    script.raises["a"] = OSError(errno.EMFILE, "too many open files")
    prober = script.prober()
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(5)
    assert (script.told, script.skipped) == ([], 4)
    script.raises.clear()
    await asyncio.sleep(2)
    assert script.told == [(KEY, "at-a", True, None)]


@pytest.mark.looptime
async def test_a_kind_of_address_that_this_machine_lacks_is_told_in_words(script: Script) -> None:
    script.raises["a"] = OSError(errno.EAFNOSUPPORT, "")
    prober = script.prober()
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(1)
    assert set(script.failures("at-a")) == {"address family not supported by protocol"}


async def test_as_many_files_are_asked_for_as_checks_may_need(script: Script) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = module.OPEN_FILES if limits[1] == resource.RLIM_INFINITY else min(limits[1], module.OPEN_FILES)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, most), limits[1]))
        script.prober().close()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.looptime
async def test_who_does_not_take_an_outcome_ends_nothing(script: Script) -> None:
    def tell(key: ObjectKey, name: str, outcome: Outcome) -> None:
        raise KeyError("bug")

    prober = Prober(tell, tcp=script.checks, http=script.checks)
    prober.set(KEY, endpoints("a"), TCP)
    await asyncio.sleep(9)
    assert len(script.begun["a"]) >= 5


async def test_a_check_is_not_failed_for_time_in_which_this_process_did_not_run(script: Script) -> None:
    class Answered(ScriptedChecks):
        def begin(self, job: Scheduled) -> None:
            super().begin(job)
            self._loop.call_soon(time.sleep, 0.3)  # all stands still, and the answer needs some turns to be read
            self._loop.call_later(0.1, self._turn, job, self._script.running[job], 5)

        def _turn(self, job: Scheduled, this: object, turns: int) -> None:
            if turns:
                self._loop.call_soon(self._turn, job, this, turns - 1)
            else:
                self._end(job, this)

    script.takes["a"] = NEVER
    prober = Prober(
        script.tell, tcp=lambda ended: Answered(script, ended), http=lambda ended: ScriptedChecks(script, ended)
    )
    prober.set(KEY, endpoints("a"), Check(interval=2.0, timeout=0.2))

    async def told() -> bool:
        return bool(script.told)

    await eventually(told)
    prober.close()
    assert script.told == [(KEY, "at-a", True, None)]


# --- the real checks ------------------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        yield listening


async def test_real_checks_are_made_and_leave_no_file_open(listener: socket.socket) -> None:
    files = len(os.listdir("/proc/self/fd"))
    script = Script()
    prober = Prober(script.tell)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = Target("127.0.0.1", closed.getsockname()[1])
    silent = Target("127.0.0.1", listener.getsockname()[1])  # accepts and says nothing
    prober.set(ObjectKey("frontend", "tcp"), {"open": silent, "closed": nobody}, Check(0.2, 0.1))
    prober.set(ObjectKey("frontend", "http"), {"silent": silent, "nobody": nobody}, Check(0.2, 0.1, Http()))

    async def told() -> bool:
        return len(script.told) >= 12

    await eventually(told)
    prober.set(ObjectKey("frontend", "http"), {"silent": silent}, Check(0.2, 0.1, Http(path="/other")))
    prober.close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert {(key[1], name, success, message) for key, name, success, message in script.told} == {
        ("tcp", "open", True, None),
        ("tcp", "closed", False, "connection refused"),
        ("http", "silent", False, "no answer within 0.1 s"),
        ("http", "nobody", False, "connection refused"),
    }
    assert len(os.listdir("/proc/self/fd")) == files
