import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from moorage.api.coordination_v1 import Lease, LeaseSpec
from moorage.cluster.client import Client
from moorage.cluster.election import TIMINGS, Election, Leadership, NotLeadingError, Timings, process_identity
from moorage.cluster.errors import ApiError, UnreachableError
from tests.support.apiserver import api_server

pytestmark = pytest.mark.looptime(noop_cycles=1)


def now() -> float:
    return round(asyncio.get_running_loop().time(), 3)


class Server:
    """Keeps one Lease as an API server does; `trouble` decides what happens to each request."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.trouble: Callable[[str], str] = lambda who: ""
        """By candidate: `""`, `lost` (never arrives), `unanswered` (is done, the answer is lost), `hangs`, `busy`."""
        self.delay: Callable[[], float] = lambda: 0.0
        self.requests: list[tuple[float, str, str]] = []
        self._version = 0

    def store(self, spec: LeaseSpec, uid: str | None) -> Lease:
        self._version += 1
        metadata = msgspec.structs.replace(
            Lease().metadata, name="l", namespace="n", uid=uid, resource_version=str(self._version)
        )
        self.lease = Lease(metadata=metadata, spec=spec)
        return self.lease


class Candidate:
    """The server's client for one candidate, and the candidate itself."""

    def __init__(self, server: Server, name: str, timings: Timings = TIMINGS) -> None:
        self._server, self.name = server, name
        self.terms: list[tuple[float, float]] = []
        """From when to when it led."""
        self.leadership: Leadership | None = None
        self.leaders: list[str] = []
        self.lead: Callable[[Leadership], Any] = self.forever
        self.election = Election(
            self, "n", "l", name, timings=timings, jitter=lambda: 0.5, on_leader=self.leaders.append
        )
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self.election.run(self._lead))

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.wait({self.task})

    async def _lead(self, leadership: Leadership) -> None:
        self.leadership = leadership
        begun = now()
        try:
            await self.lead(leadership)
        finally:
            self.terms.append((begun, now()))

    async def forever(self, leadership: Leadership) -> None:
        await asyncio.Event().wait()

    @property
    def leads(self) -> bool:
        return self.leadership is not None and self.leadership.valid()

    async def get(self, kind: type[Lease], namespace: str | None, name: str) -> Lease:
        def read() -> Lease:
            if self._server.lease is None:
                raise ApiError(404, "NotFound", "no lease")
            return self._server.lease

        return await self._request("get", read)

    async def create(self, obj: Lease) -> Lease:
        def write() -> Lease:
            if self._server.lease is not None:
                raise ApiError(409, "AlreadyExists", "there is one")
            return self._server.store(obj.spec, f"uid-{random.random()}")

        return await self._request("create", write)

    async def patch(self, kind: type[Lease], namespace: str | None, name: str, body: Any) -> Lease:
        def write() -> Lease:
            old = self._server.lease
            if old is None:
                raise ApiError(404, "NotFound", "no lease")
            sent = body["metadata"]
            if (sent["uid"], sent["resourceVersion"]) != (old.metadata.uid, old.metadata.resource_version):
                raise ApiError(409, "Conflict", "another version")
            assert isinstance(body["spec"], LeaseSpec)
            return self._server.store(body["spec"], old.metadata.uid)

        return await self._request("patch", write)

    async def _request(self, what: str, do: Callable[[], Lease]) -> Lease:
        trouble = self._server.trouble(self.name)
        self._server.requests.append((now(), self.name, what))
        await asyncio.sleep(self._server.delay())
        if trouble == "hangs":
            await asyncio.Event().wait()
        if trouble == "lost":
            raise UnreachableError("no connection")
        if trouble == "busy":
            raise ApiError(500, "InternalError", "busy")
        answer = do()
        await asyncio.sleep(self._server.delay())
        if trouble == "unanswered":
            raise UnreachableError("the connection broke")
        return answer


async def test_the_first_candidate_leads_at_once_and_renews_every_two_seconds() -> None:
    server = Server()
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(60)
    assert a.leads
    assert server.requests[:2] == [(0, "a", "get"), (0, "a", "create")]
    assert server.requests[2:] == [(2.0 * n, "a", "patch") for n in range(1, 30)]
    assert server.lease is not None
    spec = server.lease.spec
    assert (spec.holder_identity, spec.lease_duration_seconds, spec.lease_transitions) == ("a", 15, 0)
    assert (spec.acquire_time or "") <= (spec.renew_time or "")
    await a.stop()


async def test_when_the_leader_vanishes_another_takes_over_when_the_lease_has_expired() -> None:
    server = Server()
    a, b = Candidate(server, "a"), Candidate(server, "b")
    a.start()
    await asyncio.sleep(1)
    b.start()
    await asyncio.sleep(30)
    server.trouble = lambda who: "lost" if who == "a" else ""
    await asyncio.sleep(30)
    (_, ended), begun = a.terms[0], b.leadership and now()
    assert begun is not None
    # The last renewal was sent at 30.
    assert ended == 40
    taken = next(time for time, who, what in server.requests if who == "b" and what == "patch")
    assert 45 <= taken <= 45 + 2.2 + 0.2, "the last renewal was seen a retry period later at most"
    assert b.leads
    assert not a.leads
    assert server.lease is not None
    assert server.lease.spec.lease_transitions == 1
    assert b.leadership is not None
    assert b.leadership.term == 1
    assert b.leaders == ["a", "b"]
    for one in (a, b):
        await one.stop()


@pytest.mark.parametrize("offset", [0.1, 0.9, 1.9])
async def test_it_takes_at_most_18_seconds_whenever_the_candidate_looks(offset: float) -> None:
    server = Server()
    a, b = Candidate(server, "a"), Candidate(server, "b")
    a.start()
    await asyncio.sleep(offset)
    b.start()
    await asyncio.sleep(30.01 - offset)
    # Right after a renewal: nothing is later.
    server.trouble = lambda who: "lost" if who == "a" else ""
    await asyncio.sleep(18)
    assert b.leads
    assert not a.leads
    for one in (a, b):
        await one.stop()


async def test_a_stopped_leader_gives_the_lease_back_after_its_work_has_ended() -> None:
    server = Server()
    a, b = Candidate(server, "a"), Candidate(server, "b")

    async def slow_end(leadership: Leadership) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(20)
            leadership.check()
            ended.append(now())

    ended: list[float] = []
    a.lead = slow_end
    a.start()
    await asyncio.sleep(1)
    b.start()
    await asyncio.sleep(20)
    await a.stop()
    assert ended == [41], "it was renewed while it ended"
    assert a.terms == [(0, 41)]
    assert server.lease is not None
    spec = server.lease.spec
    assert (spec.holder_identity, spec.lease_duration_seconds, spec.lease_transitions) == ("", 1, 0)
    assert not a.leads
    await asyncio.sleep(2.4)
    assert b.leads
    assert server.lease.spec.lease_transitions == 1
    await b.stop()


async def test_the_lease_is_given_back_when_the_work_returns_or_raises() -> None:
    server = Server()
    a = Candidate(server, "a")

    async def done(leadership: Leadership) -> None:
        await asyncio.sleep(5)

    async def broken(leadership: Leadership) -> None:
        raise ZeroDivisionError

    a.lead = done
    await a.election.run(a._lead)
    assert now() == 5
    assert server.lease is not None
    assert server.lease.spec.holder_identity == ""
    a.lead = broken
    with pytest.raises(ZeroDivisionError):
        await a.election.run(a._lead)
    assert server.lease.spec.holder_identity == ""


async def test_a_leader_that_cannot_renew_is_cancelled_at_the_deadline_and_is_a_candidate_again() -> None:
    server = Server()
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(3)
    for trouble in ("hangs", "lost", "busy"):
        assert a.leads
        begun = now()
        last = max(time for time, _, what in server.requests if what in ("create", "patch"))
        server.trouble = lambda who, trouble=trouble: trouble  # type: ignore[misc]
        with capture_logs() as logs:
            await asyncio.sleep(last + 9.9 - begun)
            assert a.leads
            await asyncio.sleep(0.2)
        assert not a.leads
        assert a.terms[-1][1] == round(last + 10, 3)
        assert [entry["event"] for entry in logs] == ["cannot claim the lease", "could not renew the lease in time"]
        await asyncio.sleep(60)
        server.trouble = lambda who: ""
        await asyncio.sleep(12)
    assert a.leads
    await a.stop()


async def test_the_time_of_a_leader_counts_from_when_it_asked_and_not_from_the_answer() -> None:
    server = Server()
    server.delay = lambda: 1.0
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(3.5)
    assert a.leadership is not None
    assert a.leadership.until == 10, "it asked at 0, and was answered at 3"
    await asyncio.sleep(4)
    assert a.leadership.until == 15, "it asked at 5, and was answered at 7"
    await a.stop()


async def test_one_lost_answer_does_not_end_a_term() -> None:
    server = Server()
    a = Candidate(server, "a")
    a.start()
    troubles = iter(["", "", "unanswered", "", "", "", "lost", "", "hangs"])
    server.trouble = lambda who: next(troubles, "")
    await asyncio.sleep(60)
    assert a.leads
    assert a.terms == []
    await a.stop()


async def test_a_lease_that_somebody_else_holds_now_is_lost_at_once() -> None:
    server = Server()
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(5)
    assert server.lease is not None
    spec = LeaseSpec(holder_identity="person", lease_duration_seconds=15)
    server.store(spec, server.lease.metadata.uid)
    await asyncio.sleep(1.1)
    assert a.terms == [(0, 6)]
    await asyncio.sleep(30)
    assert a.leads, "whoever took it did not renew it"
    await a.stop()


async def test_a_candidate_waits_the_full_time_from_when_it_first_saw_the_record() -> None:
    server = Server()
    # Its clock says that it is long over, or far ahead; neither counts.
    for stamp in ("1999-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"):
        started = now()
        server.store(LeaseSpec(holder_identity="x", lease_duration_seconds=15, renew_time=stamp), "uid")
        a = Candidate(server, "a")
        a.start()
        await asyncio.sleep(14.9)
        assert not a.leads
        await asyncio.sleep(2.3)
        assert a.leads
        assert now() - started < 18
        await a.stop()


async def test_a_candidate_looks_every_retry_period_and_again_right_after_the_lease_expires() -> None:
    server = Server()
    server.store(LeaseSpec(holder_identity="x", lease_duration_seconds=15), "uid")
    started = now()
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(16)
    # To each wait 0.2 s are added, of up to 0.4 s by which candidates are spread.
    waits = [round(time - started, 3) for time, _, what in server.requests if what == "get"]
    assert waits == [0, 2.2, 4.4, 6.6, 8.8, 11, 13.2, 15.2]
    assert a.leads
    await a.stop()


async def test_a_lease_without_holder_or_duration_is_understood() -> None:
    server = Server()
    server.store(LeaseSpec(), "uid")
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(0.1)
    assert a.leads
    await a.stop()
    server.store(LeaseSpec(holder_identity="x"), "uid")
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(14.9)
    assert not a.leads
    await asyncio.sleep(2.3)
    assert a.leads
    await a.stop()


async def test_a_deleted_lease_is_made_again_by_its_holder_and_taken_by_no_other_at_once() -> None:
    server = Server()
    a, b = Candidate(server, "a"), Candidate(server, "b")
    a.start()
    await asyncio.sleep(0.9)
    b.start()
    await asyncio.sleep(5)
    server.lease = None
    await asyncio.sleep(60)
    assert a.leads
    assert not b.leads
    for one in (a, b):
        await one.stop()


async def test_a_claim_whose_answer_never_came_is_given_back_when_the_candidate_stops() -> None:
    server = Server()
    a = Candidate(server, "a")
    troubles = iter(["", "unanswered"])
    server.trouble = lambda who: next(troubles, "")
    a.start()
    await asyncio.sleep(1)
    assert server.lease is not None
    assert server.lease.spec.holder_identity == "a"
    await a.stop()
    assert server.lease.spec.holder_identity == ""


async def test_stopping_does_not_wait_long_for_a_server_that_does_not_answer() -> None:
    server = Server()
    a = Candidate(server, "a")
    a.start()
    await asyncio.sleep(1)
    server.trouble = lambda who: "hangs"
    await a.stop()
    assert now() == 3


async def test_work_that_is_refused_to_write_after_a_freeze_makes_its_process_a_candidate_again() -> None:
    server = Server()
    a = Candidate(server, "a")
    refused = []

    async def write(leadership: Leadership) -> None:
        while True:
            await asyncio.sleep(0.5)
            try:
                leadership.check()
            except NotLeadingError as error:
                refused.append(str(error))
                raise

    a.lead = write
    a.start()
    await asyncio.sleep(4.1)
    # As after a thaw: the deadline has passed and no timer has had its turn.
    assert a.leadership is not None
    a.leadership._until = now()
    await asyncio.sleep(3)
    assert refused == ["not leading any more; whoever leads now does this"]
    assert a.task is not None
    assert not a.task.done()
    assert a.leads
    await a.stop()


def test_an_ended_leadership_does_not_come_back() -> None:
    async def main() -> None:
        leadership = Leadership(now() + 10, 0)
        leadership.check()
        leadership._end()
        leadership._renew(now() + 10)
        with pytest.raises(NotLeadingError):
            leadership.check()

    asyncio.run(main())


@pytest.mark.parametrize("timings", [Timings(10, 10, 2), Timings(15, 2.2, 2), Timings(15, 10, 0)])
def test_timings_that_would_let_two_lead_are_refused(timings: Timings) -> None:
    with pytest.raises(ValueError, match="must be lease > renew"):
        Candidate(Server(), "a", timings)


def test_identities_are_of_one_process_alone() -> None:
    assert process_identity() != process_identity()
    with pytest.raises(ValueError, match="identity"):
        Candidate(Server(), "")


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 4))
async def test_no_two_lead_at_once_whatever_happens_to_requests_and_processes(seed: int, count: int) -> None:
    chance = random.Random(seed)
    server = Server()
    candidates = [Candidate(server, f"c{number}") for number in range(count)]
    bad: dict[str, float] = {}
    """Until when a candidate has trouble with most of its requests."""

    def trouble(who: str) -> str:
        often = 0.9 if bad.get(who, 0) > now() else 0.05
        return chance.choice(["lost", "unanswered", "hangs", "busy"]) if chance.random() < often else ""

    server.trouble = trouble
    server.delay = lambda: chance.choice([0.0, 0.01, 0.3, 2.0])
    for candidate in candidates:
        candidate.start()
    for _ in range(600):
        await asyncio.sleep(0.25)
        leaders = [candidate.name for candidate in candidates if candidate.leads]
        assert len(leaders) <= 1, f"{leaders} lead at {now()}"
        if chance.random() < 0.02:
            bad[chance.choice(candidates).name] = now() + 40
        if chance.random() < 0.01:
            one = chance.choice(candidates)
            assert one.task is not None
            await one.stop()
            one.start()
        elif chance.random() < 0.005 and server.lease is not None:
            # A person edits something else about it.
            server.store(server.lease.spec, server.lease.metadata.uid)
    # All that time there may have been too much trouble for anybody.
    server.trouble, server.delay = lambda who: "", lambda: 0.0
    await asyncio.sleep(30)
    assert [candidate.leads for candidate in candidates].count(True) == 1
    for candidate in candidates:
        await candidate.stop()


@pytest.mark.looptime(False)  # A clock that jumps when nothing happens can jump over an answer that is on its way.
async def test_candidates_take_turns_on_an_api_server() -> None:
    async with api_server() as server, Client(server.config) as first, Client(server.config) as second:
        await server.create("/api/v1/namespaces", {"metadata": {"name": "n"}})
        led = asyncio.Queue[str]()

        def candidate(client: Client, name: str) -> asyncio.Task[None]:
            async def lead(leadership: Leadership) -> None:
                leadership.check()
                led.put_nowait(name)
                await asyncio.Event().wait()

            return asyncio.create_task(Election(client, "n", "l", name).run(lead))

        tasks = [candidate(first, "a"), candidate(second, "b")]
        for expected in ("one", "the other"):
            async with asyncio.timeout(20):
                leader = await led.get()
            lease = await first.get(Lease, "n", "l")
            assert lease.spec.holder_identity == leader, expected
            task = tasks["ab".index(leader)]
            task.cancel()
            await asyncio.wait({task})
        lease = await first.get(Lease, "n", "l")
        assert lease.spec.holder_identity == ""
        assert lease.spec.lease_transitions == 1
