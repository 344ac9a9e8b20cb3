"""In which order a decision is carried out, and where it ends when a write fails."""

from typing import cast

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object, ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServiceStatus, ProblemStatus
from moorage.cluster.errors import ApiError
from moorage.core.model import Create, Decision, News, Write
from moorage.operator.deferred import Deferred
from moorage.operator.publish import Publisher
from moorage.operator.records import BURST_SECONDS, Record
from moorage.operator.writer import RefusedError, TakenError, Writer

KEY = ObjectKey("default", "backend")
XSVC = ExternalService(metadata=ObjectMeta(name="backend", namespace="default", uid="1", generation=1))
META = ObjectMeta(name="backend-1", namespace="default")
STATUS = ExternalServiceStatus(observed_generation=1, healthy="1/1")
DECISION = Decision(
    (Create(Service(metadata=META)), Create(EndpointSlice(metadata=META, address_type="IPv4"))),
    STATUS,
    (News("Normal", "Ready", "all is well"),),
)


class Done:
    """What was done, in order; `fails` is raised by what has this name."""

    def __init__(self, **fails: Exception) -> None:
        self.steps: list[str] = []
        self.statuses: list[ExternalServiceStatus] = []
        self._fails = fails
        self.publisher = Publisher(cast("Writer", self), cast("Deferred", self), lambda: "2027-01-01T00:00:00Z")

    async def do(self, write: Write) -> None:
        assert isinstance(write, Create)
        self._step(type(write.obj).__name__)

    async def status(self, xsvc: ExternalService, status: ExternalServiceStatus) -> ExternalService:
        self._step("status")
        self.statuses.append(status)
        return replace(xsvc, status=status)

    def record(self, about: Object, type: str, reason: str, message: str) -> None:
        self._step(reason)

    def refuse(self, what: str, why: str) -> None:
        self._fails[what] = RefusedError("Service default/backend", ApiError(403, "Forbidden", why))

    def _step(self, name: str) -> None:
        self.steps.append(name)
        if error := self._fails.pop(name, None):
            raise error


async def test_writes_come_first_then_the_status_then_events() -> None:
    done = Done()
    with capture_logs() as logs:
        assert await done.publisher.publish(Record(KEY), XSVC, DECISION)
    assert done.steps == ["Service", "EndpointSlice", "status", "Ready"]
    [line] = logs
    assert (line["object"], line["writes"]) == (
        str(KEY),
        ["create Service backend-1", "create EndpointSlice backend-1"],
    )


async def test_where_nothing_has_changed_nothing_is_written() -> None:
    done = Done()
    with capture_logs() as logs:
        assert not await done.publisher.publish(Record(KEY), XSVC, Decision((), XSVC.status, ()))
    assert done.steps == []
    assert logs == []


@pytest.mark.looptime
async def test_a_refusal_counts_for_a_second_of_work() -> None:
    done, record = Done(), Record(KEY)
    for number in range(int(BURST_SECONDS)):
        assert record.pace.wait() == 0
        done.refuse("Service", f"request {number}")
        with pytest.raises(RefusedError):
            await done.publisher.publish(record, XSVC, DECISION)
    assert record.pace.wait() > 0


async def test_a_slice_under_our_name_is_remembered_and_ends_the_attempt() -> None:
    done, record = Done(EndpointSlice=TakenError("there is one")), Record(KEY)
    with pytest.raises(TakenError):
        await done.publisher.publish(record, XSVC, DECISION)
    assert done.steps == ["Service", "EndpointSlice"]
    assert record.obstacles == {META.key}


async def test_a_service_under_our_name_is_no_slice_in_the_way() -> None:
    done, record = Done(Service=TakenError("there is one")), Record(KEY)
    with pytest.raises(TakenError):
        await done.publisher.publish(record, XSVC, DECISION)
    assert record.obstacles == set()


@pytest.mark.parametrize(("what", "type_"), [("Service", "Ready"), ("status", "Accepted")])
async def test_what_is_refused_is_said_in_the_status_in_place_of_news(what: str, type_: str) -> None:
    refused = RefusedError("Service default/backend", ApiError(403, "Forbidden", "no"))
    done = Done(**{what: refused})
    with pytest.raises(RefusedError):
        await done.publisher.publish(Record(KEY), XSVC, DECISION)
    assert done.steps[-2:] == ["status", "WriteRefused"]
    assert "Ready" not in done.steps
    found = {each.type: each.reason for each in done.statuses[-1].conditions or ()}
    assert found[type_] == "WriteRefused"


async def test_problems_are_told_though_a_write_is_refused_as_the_status_has_them_by_then() -> None:
    problem = ProblemStatus(reason="Timeout", message="no answer", source="dns/db.example.com")
    news = (News("Warning", "Timeout", "dns/db.example.com: no answer"), *DECISION.news)
    decision = DECISION._replace(status=replace(STATUS, problems=[problem]), news=news)
    done = Done(Service=RefusedError("Service default/backend", ApiError(403, "Forbidden", "no")))
    with pytest.raises(RefusedError):
        await done.publisher.publish(Record(KEY), XSVC, decision)
    assert done.statuses[-1].problems == [problem]
    assert done.steps == ["Service", "status", "WriteRefused", "Timeout"]
