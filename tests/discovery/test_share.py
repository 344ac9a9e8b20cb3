import asyncio

import pytest

from moorage.discovery.resolver import Addresses, AddressType, LookupFailedError, account
from moorage.discovery.share import MAX_QUESTIONS, QUESTIONS_BURST, QUESTIONS_PER_SECOND, Share
from tests.support.fake_names import FakeNames

pytestmark = pytest.mark.looptime


async def test_answers_and_failures_are_passed_on() -> None:
    names = FakeNames()
    names.put("db.example.com", "203.0.113.1")
    names.fail("other.example.com")
    share = Share(names)
    assert (await share.addresses("db.example.com", "A")).addresses == ("203.0.113.1",)
    assert (await share.servers("db.example.com")).servers == ()
    for _ in range(2 * MAX_QUESTIONS):
        with pytest.raises(LookupFailedError):
            await share.addresses("other.example.com", "A")


async def test_a_question_that_is_given_up_leaves_its_place() -> None:
    names = FakeNames()
    names.gate.clear()
    share = Share(names)
    first = [asyncio.create_task(share.addresses(f"db{number}.example.com", "A")) for number in range(MAX_QUESTIONS)]
    last = asyncio.create_task(share.servers("db.example.com"))
    await asyncio.sleep(1)
    assert len(names.asked) == MAX_QUESTIONS
    first[0].cancel()
    await asyncio.sleep(1)
    assert names.asked[("db.example.com", "SRV")] == 1
    names.gate.set()
    await asyncio.gather(*first, last, return_exceptions=True)


class Large(FakeNames):
    """Each answer costs as much as many questions."""

    async def addresses(self, name: str, type: AddressType) -> Addresses:
        found = await super().addresses(name, type)
        told = account.get()
        assert told is not None
        told(100.0)
        return found


async def test_what_large_answers_cost_is_waited_for_by_their_namespace() -> None:
    names = Large()
    share, other = Share(names), Share(names)
    now = asyncio.get_running_loop().time
    start = now()
    for _ in range(12):
        await share.addresses("db.example.com", "A")
    assert now() - start == pytest.approx((11 * 101 - QUESTIONS_BURST) / QUESTIONS_PER_SECOND, abs=0.1)
    start = now()
    await other.addresses("db.example.com", "A")
    assert now() == start
