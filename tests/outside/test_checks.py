import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from moorage.api.meta import ObjectKey
from moorage.core.health import Outcome
from moorage.outside.checks import ChecksWorker, RemoteProber
from moorage.outside.checks_messages import FromChecks, Outcomes, ToChecks
from moorage.probe.check import Check, Http, Target, Tls
from tests.support.children import ChildHere, Pipe

pytestmark = pytest.mark.looptime

A, B = ObjectKey("one", "backend"), ObjectKey("two", "backend")
WEB = Check(interval=1.5, http=Http("/healthz", "db.example.com", ((200, 204),), Tls("db.example.com", "PEM", False)))


class ToldProber:
    """A prober that notes what it is to check; the test says what comes of it."""

    def __init__(
        self,
        on_outcome: Callable[[ObjectKey, str, Outcome], None],
        *,
        on_late: Callable[[float], None],
        on_skipped: Callable[[], None],
    ) -> None:
        self.checks: dict[ObjectKey, tuple[dict[str, Target], Check]] = {}
        self.ended, self.late, self.skipped = on_outcome, on_late, on_skipped
        self.closed = False

    def set(self, key: ObjectKey, targets: Mapping[str, Target], check: Check) -> None:
        self.checks[key] = dict(targets), check

    def remove(self, key: ObjectKey) -> None:
        self.checks.pop(key, None)

    def close(self) -> None:
        self.closed = True


class Fixture:
    def __init__(self) -> None:
        self.children: list[ChildHere[FromChecks]] = []
        self.probers: list[ToldProber] = []
        self.outcomes: list[tuple[ObjectKey, str, Outcome]] = []
        self.late: list[float] = []
        self.skipped = 0
        self.prober = RemoteProber(
            self._start,
            lambda *outcome: self.outcomes.append(outcome),
            on_late=self.late.append,
            on_skipped=self._skip,
        )

    def _skip(self) -> None:
        self.skipped += 1

    async def _start(self) -> ChildHere[FromChecks]:
        def prober(*args: Callable[[ObjectKey, str, Outcome], None], **callbacks: Callable[..., None]) -> ToldProber:
            self.probers.append(ToldProber(*args, **callbacks))
            return self.probers[-1]

        def make(channel: Pipe[ToChecks]) -> ChecksWorker:
            return ChecksWorker(channel, prober)

        self.children.append(ChildHere(make, ToChecks, FromChecks))
        return self.children[-1]

    @property
    def there(self) -> ToldProber:
        return self.probers[-1]


def targets(*names: str, port: int = 80) -> dict[str, Target]:
    return {name: Target("203.0.113.1", port) for name in names}


@pytest.fixture
async def fixture() -> AsyncIterator[Fixture]:
    made = Fixture()
    yield made
    await made.prober.close()
    assert all(each.closed for each in made.probers)


async def test_what_is_to_be_checked_arrives_as_it_is(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1", "a2"), Check())
    fixture.prober.set(B, targets("b1"), WEB)
    await asyncio.sleep(1)
    assert fixture.there.checks == {A: (targets("a1", "a2"), Check()), B: (targets("b1"), WEB)}
    fixture.prober.remove(A)
    fixture.prober.set(B, targets("b2"), WEB)
    await asyncio.sleep(1)
    assert fixture.there.checks == {B: (targets("b2"), WEB)}


async def test_outcomes_arrive_as_they_are(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1", "a2"), Check())
    await asyncio.sleep(1)
    told = [(A, "a1", Outcome(True, None, 0.25)), (A, "a2", Outcome(False, "connection refused", 0.5))]
    for each in told:
        fixture.there.ended(*each)
    fixture.there.late(0.125)
    fixture.there.skipped()
    await asyncio.sleep(1)
    assert fixture.outcomes == told
    assert fixture.late == [0.125]
    assert fixture.skipped == 1


async def test_that_checks_are_late_or_not_made_is_told_also_while_none_ends(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1"), Check())
    await asyncio.sleep(1)
    fixture.there.late(0.125)
    await asyncio.sleep(1)
    assert fixture.late == [0.125]
    fixture.there.skipped()
    await asyncio.sleep(1)
    assert fixture.skipped == 1


async def test_the_outcome_of_what_an_endpoint_was_before_counts_for_nothing(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("moves", "stays"), Check())
    await asyncio.sleep(1)
    outcome = Outcome(False, "no answer", 1.0)
    fixture.there.ended(A, "moves", outcome)
    fixture.there.ended(A, "stays", outcome)
    # These are under way while the endpoint gets another address.
    fixture.prober.set(A, {**targets("moves", port=81), **targets("stays")}, Check())
    await asyncio.sleep(1)
    assert fixture.outcomes == [(A, "stays", outcome)]
    fixture.there.ended(A, "moves", outcome)
    await asyncio.sleep(1)
    assert fixture.outcomes[1:] == [(A, "moves", outcome)]


async def test_another_check_of_the_same_endpoint_is_told_and_the_last_ones_outcome_counts_for_nothing(
    fixture: Fixture,
) -> None:
    fixture.prober.set(A, targets("a1"), Check())
    await asyncio.sleep(1)
    fixture.there.ended(A, "a1", Outcome(True))
    fixture.prober.set(A, targets("a1"), WEB)
    await asyncio.sleep(1)
    assert fixture.there.checks == {A: (targets("a1"), WEB)}
    assert fixture.outcomes == []


async def test_outcomes_of_what_is_removed_count_for_nothing(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1"), Check())
    await asyncio.sleep(1)
    fixture.there.ended(A, "a1", Outcome(True))
    fixture.prober.remove(A)
    fixture.prober.set(A, targets("a1"), Check())
    await asyncio.sleep(1)
    assert fixture.outcomes == []


async def test_what_is_as_it_was_is_not_told_again(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1"), Check())
    await asyncio.sleep(1)
    fixture.there.checks.clear()
    fixture.prober.set(A, targets("a1"), Check())
    await asyncio.sleep(1)
    assert fixture.there.checks == {}


async def test_a_new_child_checks_everything(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1"), Check())
    fixture.prober.set(B, targets("b1"), WEB)
    await asyncio.sleep(1)
    fixture.prober.remove(A)
    fixture.children[0].die()
    await asyncio.sleep(1)
    assert len(fixture.probers) == 2
    assert fixture.there.checks == {B: (targets("b1"), WEB)}
    fixture.there.ended(B, "b1", Outcome(True))
    await asyncio.sleep(1)
    assert fixture.outcomes == [(B, "b1", Outcome(True))]


async def test_to_an_operator_that_does_not_run_only_the_last_outcomes_are_kept(fixture: Fixture) -> None:
    fixture.prober.set(A, targets("a1", "a2"), Check())
    await asyncio.sleep(1)
    fixture.children[0].end_of_child.full = True
    for number in range(100):
        fixture.there.ended(A, "a1", Outcome(False, f"status {number}"))
        fixture.there.ended(A, "a2", Outcome(True))
        fixture.there.late(0.5)
        await asyncio.sleep(1)
    fixture.children[0].end_of_child.full = False
    await asyncio.sleep(2)
    assert fixture.outcomes == [(A, "a1", Outcome(False, "status 99")), (A, "a2", Outcome(True))]
    assert fixture.late == []


def test_an_outcome_takes_few_bytes() -> None:
    import msgspec

    thousand = Outcomes([(123456, None, 0.0012)] * 1000, [0.001] * 1000, 0)
    assert len(msgspec.msgpack.encode(thousand)) < 30 * 1000
