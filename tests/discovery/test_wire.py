"""DNS messages: as a library writes them, and as somebody hostile does."""

import struct
from contextlib import suppress

import dns.flags
import dns.message
import dns.name
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.discovery.wire import (
    AAAA,
    CNAME,
    MAX_POINTERS,
    MAX_UDP_BYTES,
    SRV,
    A,
    MalformedError,
    Message,
    labels,
    question,
)

DB = b"\x02db\x07example\x03com"
HEADER = struct.pack("!HHHHHH", 7, 0x8180, 1, 1, 0, 0)


def written(*answers: dns.rrset.RRset, authority: tuple[dns.rrset.RRset, ...] = (), type: str = "A") -> bytes:
    message = dns.message.make_response(dns.message.make_query("DB.example.com.", type))
    message.answer += list(answers)
    message.authority += list(authority)
    return message.to_wire(max_size=65535)


def rrset(name: str, ttl: int, type: str, *values: str) -> dns.rrset.RRset:
    return dns.rrset.from_text(name, ttl, "IN", type, *values)


@pytest.mark.parametrize("edns", [True, False])
def test_a_question_is_one_that_a_library_reads(edns: bool) -> None:
    read = dns.message.from_wire(question(7, DB, AAAA, edns=edns))
    assert read.id == 7
    assert read.flags == dns.flags.RD
    assert read.question[0].to_text() == "db.example.com. IN AAAA"
    assert (read.edns, read.payload) == ((0, MAX_UDP_BYTES) if edns else (-1, 0))


def test_answers_are_found_by_owner_with_aliases() -> None:
    message = Message(
        written(
            rrset("db.example.com.", 20, "CNAME", "Other.Example.com."),
            rrset("other.example.com.", 30, "A", "192.0.2.1", "192.0.2.2"),
            rrset("other.example.com.", 30, "TXT", "x"),
        )
    )
    assert message.asked == (DB, A, 1)
    found = message.answers(A)
    (alias,) = found[DB]
    assert (alias.type, alias.ttl) == (CNAME, 20)
    assert message.name_in(alias) == b"\x05other\x07example\x03com"
    records = found[message.name_in(alias)]
    assert sorted(message.data(each) for each in records) == [bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2])]
    assert message.records == 4


def test_the_target_of_a_service_is_read() -> None:
    message = Message(written(rrset("db.example.com.", 20, "SRV", "1 2 3 a.example.com."), type="SRV"))
    ((record,),) = message.answers(SRV).values()
    assert labels(message.name_in(record, 6)) == (b"a", b"example", b"com")
    assert struct.unpack_from("!HHH", message.data(record)) == (1, 2, 3)


def test_an_authority_says_that_there_is_nothing_or_whom_else_to_ask() -> None:
    soa = rrset("example.com.", 60, "SOA", "ns.example.com. admin.example.com. 1 2 3 4 40")
    servers = rrset("example.com.", 60, "NS", "ns.example.com.")
    alias = rrset("db.example.com.", 20, "CNAME", "other.example.com.")
    assert Message(written(authority=(soa,))).authority() == (False, 40)
    assert Message(written(alias, authority=(servers,))).authority() == (True, None)
    assert Message(written(alias)).authority() == (False, None)


@pytest.mark.parametrize("questions", [2, 3])
def test_an_answer_to_several_questions_is_refused(questions: int) -> None:
    asked = DB + b"\0" + struct.pack("!HH", A, 1)
    with pytest.raises(MalformedError):
        Message(struct.pack("!HHHHHH", 7, 0x8180, questions, 0, 0, 0) + asked * questions)


@pytest.mark.parametrize(("length", "right"), [(254, True), (255, False)])
def test_a_name_has_254_bytes_at_most_and_the_empty_label(length: int, right: bool) -> None:
    name = (b"\x3f" + b"x" * 63) * 3 + bytes([length - 193]) + b"x" * (length - 193)
    assert len(name) == length
    wire = HEADER + name + b"\0" + struct.pack("!HH", A, 1)
    if right:
        assert Message(wire).asked == (name, A, 1)
        return
    with pytest.raises(MalformedError):
        Message(wire)


@pytest.mark.parametrize("cut", [1, 4, 5, 14, 15, 16])
def test_a_record_that_is_cut_off_is_refused(cut: int) -> None:
    whole = written(rrset("db.example.com.", 20, "A", "192.0.2.1"))
    message = Message(whole[:-cut])
    with pytest.raises(MalformedError):
        message.answers(A)


def test_a_question_is_no_answer() -> None:
    with pytest.raises(MalformedError):
        Message(question(7, DB, A, edns=True))


@pytest.mark.parametrize(
    "name",
    [
        b"\xc0\x0c",
        b"\xc0\x20",
        b"\x80",
        b"\x3f",
        b"\x3f" + b"x" * 63 + (b"\x3f" + b"x" * 63) * 3 + b"\0",
        b"",
    ],
    ids=["to itself", "forwards", "no label", "cut off", "too long", "none"],
)
def test_names_that_are_none_are_refused(name: bytes) -> None:
    with pytest.raises(MalformedError):
        Message(HEADER + name + struct.pack("!HH", A, 1))


def test_a_name_that_leads_from_pointer_to_pointer_is_refused() -> None:
    wire = HEADER + b"\x01a\0" + struct.pack("!HH", A, 1)
    start = len(wire)
    wire += struct.pack("!H", 0xC00C)
    for _ in range(MAX_POINTERS):
        wire += struct.pack("!H", 0xC000 | len(wire) - 2)
    message = Message(wire)
    assert message._name(start)[0] == b"\x01a"
    with pytest.raises(MalformedError):
        Message(wire)._name(len(wire) - 2)
    assert Message(wire)._name(len(wire) - 4)[0] == b"\x01a", "as many pointers as are followed"


@given(st.binary(max_size=600), st.integers(0, 3), st.integers(0, 3))
def test_whatever_comes_is_read_or_malformed(noise: bytes, answers: int, authorities: int) -> None:
    wire = (
        struct.pack("!HHHHHH", 7, 0x8180, 1, answers, authorities, 0) + DB + b"\0" + struct.pack("!HH", A, 1) + noise
    )
    with suppress(MalformedError):
        message = Message(wire)
        for each in message.answers(A).values():
            message.name_in(each[0])
        message.authority()
