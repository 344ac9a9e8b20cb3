"""What the neighbours' servers say is what it is meant to be, to a reader that bears it."""

import dns.message
import dns.rdatatype
import msgspec
import pytest

from bench.hostile.servers import api, names


def test_a_page_of_8_mib_has_the_fields_of_managed_fields_without_end() -> None:
    page = api.page("fat", 3)
    assert 7.9 * 2**20 < len(page) < 8 * 2**20
    assert page.startswith(b'{"metadata":{"resourceVersion":"1","continue":"3-t"}')


@pytest.mark.parametrize("behaviour", ["endless", "token"])
def test_pages_say_that_there_are_more(behaviour: str) -> None:
    page = msgspec.json.decode(api.page(behaviour, 1))
    assert len(page["metadata"]["continue"]) == (3 if behaviour == "endless" else 7 * 2**20 + 2)
    assert page["items"][0]["metadata"]["name"] == "s1"


def test_a_watch_has_so_many_events_of_some_services() -> None:
    events = [msgspec.json.decode(line) for line in api.events(100).splitlines()]
    assert len(events) == 100
    assert {each["type"] for each in events} == {"MODIFIED"}
    assert len({each["object"]["metadata"]["name"] for each in events}) == 50


@pytest.mark.parametrize("type_", ["A", "AAAA"])
def test_one_record_answers_the_question_and_thousands_do_not(type_: str) -> None:
    query = dns.message.make_query("n1-2.hostile.example.", type_)
    said = dns.message.from_wire(names.answer(query.to_wire(), stream=True))
    assert said.id == query.id
    assert sum(len(each) for each in said.answer) > 4000
    own = [each for each in said.answer if each.name == query.question[0].name]
    assert [each.rdtype for each in own] == ([dns.rdatatype.A] if type_ == "A" else [])


def test_a_datagram_says_to_ask_by_tcp() -> None:
    query = dns.message.make_query("n1-2.hostile.example.", "A", use_edns=True)
    said = dns.message.from_wire(names.answer(query.to_wire(), stream=False))
    assert said.flags & dns.flags.TC
    assert said.question == query.question
