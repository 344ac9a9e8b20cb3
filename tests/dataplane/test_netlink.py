"""Messages of netlink, and dumps that the kernel interrupts."""

import errno
import struct
from types import TracebackType
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane import netlink
from moorage.dataplane.netlink import (
    MAX_DUMPS,
    Connect,
    attribute,
    attributes,
    dump,
    errors,
    message,
    messages,
    transact,
)

MULTI, INTERRUPTED = 0x2, 0x10
ERROR, DONE = 2, 3


@given(st.lists(st.tuples(st.integers(1, 200), st.binary(max_size=40)), max_size=6))
def test_attributes_are_read_as_they_were_written(given: list[tuple[int, bytes]]) -> None:
    data = b"x" * 20 + b"".join(attribute(type, value) for type, value in given)
    assert len(data) % 4 == 0
    assert [(type, data[start:end]) for type, start, end in attributes(data, 20, len(data))] == given


def test_a_nested_attribute_has_the_type_that_it_was_given() -> None:
    data = netlink.nested(3, [attribute(1, b"a"), attribute(2, b"bc")])
    [(type, start, end)] = attributes(data, 0, len(data))
    assert type == 3
    assert [data[a:b] for _, a, b in attributes(data, start, end)] == [b"a", b"bc"]


def test_messages_are_read_as_they_were_written() -> None:
    data = message(0x0A0C, 0x400, 1, attribute(1, b"abc"), 7) + message(16, 0, 0, b"", 8, resource=10)
    first, second = messages(data)
    assert (first.type, first.flags, first.sequence) == (0x0A0C, 0x401, 7)
    assert data[first.body : first.end] == attribute(1, b"abc")
    assert (second.type, second.sequence, data[second.start : second.end]) == (16, 8, bytes([0, 0, 0, 10]))


def answer(type: int, flags: int = 0, number: int = 0) -> bytes:
    """A message of the kernel: an error number and nothing more."""
    return struct.pack("=IHHIIi", 20, type, flags, 0, 0, number)


class Kernel:
    """In place of netlink sockets: what the kernel answers, a list for each socket."""

    def __init__(self, *answers: list[bytes | OSError]) -> None:
        self._answers = list(answers)
        self.sent: list[bytes] = []

    def connect(self) -> "Kernel":
        self._left = self._answers.pop(0)
        return self

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        pass

    def settimeout(self, seconds: float) -> None:
        assert seconds > 0

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _: int) -> bytes:
        if not self._left:
            raise BlockingIOError
        match self._left.pop(0):
            case bytes() as data:
                return data
            case OSError() as error:
                raise error

    @property
    def dumps(self) -> int:
        return len(self.sent)


def connect(kernel: Kernel) -> Connect:
    return cast("Connect", kernel.connect)


WHOLE: list[bytes | OSError] = [answer(9, MULTI), answer(DONE, MULTI)]
CUT: list[bytes | OSError] = [answer(9, MULTI), answer(9, MULTI | INTERRUPTED), answer(DONE, MULTI)]
CUT_AT_THE_END: list[bytes | OSError] = [answer(9, MULTI), answer(DONE, MULTI | INTERRUPTED)]
OVERRUN: list[bytes | OSError] = [answer(9, MULTI), OSError(errno.ENOBUFS, "No buffer space available")]


@pytest.mark.parametrize("interrupted", [CUT, CUT_AT_THE_END, OVERRUN])
def test_a_dump_that_was_interrupted_is_read_again(interrupted: list[bytes | OSError]) -> None:
    kernel = Kernel(interrupted[:], interrupted[:], WHOLE[:])
    assert dump(connect(kernel), b"request") == WHOLE
    assert kernel.sent == [b"request"] * 3


def test_of_a_dump_that_is_always_interrupted_the_last_counts() -> None:
    kernel = Kernel(*(CUT[:] for _ in range(MAX_DUMPS)))
    assert dump(connect(kernel), b"request") == CUT
    assert kernel.dumps == MAX_DUMPS


def test_a_dump_that_is_always_overrun_is_an_error() -> None:
    kernel = Kernel(*(OVERRUN[:] for _ in range(MAX_DUMPS)))
    with pytest.raises(OSError, match="No buffer space"):
        dump(connect(kernel), b"request")


@pytest.mark.parametrize("type", [ERROR, DONE])
def test_an_error_ends_a_dump(type: int) -> None:
    with pytest.raises(PermissionError):
        dump(connect(Kernel([answer(9, MULTI), answer(type, 0, -errno.EPERM)])), b"request")


def test_what_a_transaction_reports_counts_until_the_last_answer() -> None:
    transact(connect(Kernel([answer(ERROR)])), b"batch")
    for answers in ([answer(ERROR), answer(ERROR, 0, -errno.EEXIST)], [answer(ERROR, 0, -errno.EEXIST) * 2]):
        with pytest.raises(FileExistsError):
            transact(connect(Kernel(list(answers))), b"batch")


def test_a_transaction_that_nobody_acknowledges_is_an_error() -> None:
    with pytest.raises(OSError, match="no answer"):
        transact(connect(Kernel([])), b"batch")


def test_only_reports_have_error_numbers() -> None:
    assert list(errors(answer(9, 0, -1) + answer(ERROR, 0, -2) + answer(DONE, 0, 0))) == [-2, 0]
