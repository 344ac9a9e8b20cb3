"""Elements over netlink, where the fake has nothing of its own: `test_nft` has what holds of both."""

import errno
import math
import os
import signal
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane import capabilities, elements, netlink
from moorage.dataplane.elements import MAX_LARGE, MAX_OF_MESSAGE, MAX_SMALL, RawElement, count, read, replace
from moorage.dataplane.layout import Layout
from moorage.dataplane.netlink import message, nested
from tests.support.netns import Namespace

MAP = """\
add table inet moorage
add map inet moorage sessions6 { type ipv6_addr . ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; \
flags dynamic,timeout; size 20000; }
add map inet moorage other { type inet_service . inet_service : inet_service . inet_service; }
"""
KEY = Layout(["ipv6_addr", "ipv6_addr", "inet_proto", "inet_service"])
VALUE = Layout(["ipv6_addr", "inet_service"])


def element(number: int, timeout: int | None = 3_600_000) -> RawElement:
    key = KEY.pack([f"fd00::{number:x}", "fd00:10:96::1", "tcp", 65535])
    return RawElement(key, VALUE.pack(["2001:db8::ffff", 65535]), timeout, timeout)


@pytest.fixture
def kernel(netns: Namespace) -> Namespace:
    netns.run("nft", "-f", "-", input=MAP)
    return netns


def written(each: RawElement) -> bytes:
    return elements._element(each.key, each.value, each.timeout, each.expires)


WORD = st.binary(min_size=4, max_size=4)
ELEMENTS = st.builds(
    lambda key, value, ages: RawElement(b"".join(key), b"".join(value), *ages),
    st.lists(WORD, min_size=1, max_size=2),
    st.lists(WORD, min_size=1, max_size=2),
    st.sampled_from([(None, None), (1000, 999), (86_400_000, 5)]),
)


@given(st.lists(st.lists(ELEMENTS, max_size=5), max_size=4))
def test_elements_of_every_form_are_read_in_any_order(datagrams: list[list[RawElement]]) -> None:
    """As if the kernel wrote them as it reads them."""
    answers = [
        message(elements._NEW, 0, 1, elements._names("moorage", "m") + nested(3, [written(one) for one in each]))
        for each in datagrams
    ]
    assert list(elements._elements(answers)) == [element for each in datagrams for element in each]


def test_elements_of_the_usual_form_are_read_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time fifty thousand take five times as long."""
    alone: list[int] = []
    read_element = elements._read_element

    def read_alone(data: bytes, start: int, end: int) -> RawElement:
        alone.append(start)
        return read_element(data, start, end)

    monkeypatch.setattr(elements, "_read_element", read_alone)
    made = [[element(first + number) for number in range(100)] for first in (0, 100, 200)]
    answers = [
        message(elements._NEW, 0, 1, elements._names("moorage", "m") + nested(3, map(written, each))) for each in made
    ]
    assert list(elements._elements(answers)) == [element for each in made for element in each]
    assert len(alone) == len(made[0])


@pytest.mark.parametrize("size", [MAX_OF_MESSAGE + 1, MAX_SMALL, MAX_LARGE])
def test_the_largest_transactions_are_taken(kernel: Namespace, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if size == MAX_LARGE and not capabilities._may_enlarge_buffers():
        pytest.skip("buffers can be enlarged only outside of user namespaces")
    if size == MAX_SMALL:
        monkeypatch.setattr(netlink, "SMALL_BATCH_BYTES", math.inf)  # a buffer that would have to be enlarged is not
    many = [element(number) for number in range(size)]
    replace(kernel.netlink, "moorage", "sessions6", [], many)
    assert sorted(each.key for each in read(kernel.netlink, "moorage", "sessions6")) == [each.key for each in many]
    replace(kernel.netlink, "moorage", "sessions6", many, many)
    assert len(read(kernel.netlink, "moorage", "sessions6")) == size
    replace(kernel.netlink, "moorage", "sessions6", many, [])
    assert read(kernel.netlink, "moorage", "sessions6") == []


@pytest.mark.parametrize("tells", [True, False], ids=["a kernel that tells", "a kernel before 6.16"])
def test_elements_are_counted(kernel: Namespace, tells: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not tells:
        monkeypatch.setattr(elements, "_COUNT", 0x3FFF)  # no attribute has that type
    assert count(kernel.netlink, "moorage", "sessions6") == 0
    many = [element(number) for number in range(MAX_SMALL)]
    replace(kernel.netlink, "moorage", "sessions6", [], many)
    assert count(kernel.netlink, "moorage", "sessions6") == MAX_SMALL
    assert count(kernel.netlink, "moorage", "nosuch") == count(kernel.netlink, "nosuch", "other") == 0


def test_another_map_and_another_table_are_not_touched(kernel: Namespace) -> None:
    before = RawElement(Layout(["inet_service"] * 2).pack([1, 2]), Layout(["inet_service"] * 2).pack([3, 4]))
    replace(kernel.netlink, "moorage", "other", [], [before])
    replace(kernel.netlink, "moorage", "sessions6", [element(1)], [])
    assert read(kernel.netlink, "moorage", "other") == [before]
    assert read(kernel.netlink, "nosuch", "other") == []
    with pytest.raises(FileNotFoundError):
        replace(kernel.netlink, "nosuch", "other", [before], [])


def test_nothing_to_replace_asks_nothing(kernel: Namespace) -> None:
    def connect() -> None:
        raise AssertionError("a socket was opened")

    replace(connect, "moorage", "sessions6", [], [])  # type: ignore[arg-type]


def test_a_full_map_is_told_and_nothing_of_the_transaction_is_done(kernel: Namespace) -> None:
    kernel.run("nft", "-f", "-", input=MAP.replace("sessions6", "small").replace("size 20000", "size 2"))
    replace(kernel.netlink, "moorage", "small", [], [element(1)])
    with pytest.raises(OSError) as caught:  # noqa: PT011
        replace(kernel.netlink, "moorage", "small", [element(1)], [element(each) for each in (2, 3, 4)])
    assert caught.value.errno == errno.ENFILE
    assert [each.key for each in read(kernel.netlink, "moorage", "small")] == [element(1).key]


OTHERS = """
echo started
for each in $(seq 5000); do
  nft 'add table ip others; add set ip others s { typeof ip saddr; }; delete table ip others'
done
"""


def test_all_is_read_while_somebody_else_changes_another_table_all_the_time(kernel: Namespace) -> None:
    """Their transactions need not mark a dump as interrupted: Linux 6.18 marks none of elements."""
    many = [element(number) for number in range(20_000)]
    for start in range(0, len(many), MAX_OF_MESSAGE):
        replace(kernel.netlink, "moorage", "sessions6", [], many[start : start + MAX_OF_MESSAGE])
    argv = [*kernel.prefix, "sh", "-c", OTHERS]
    with subprocess.Popen(argv, start_new_session=True, stdout=subprocess.PIPE) as others:
        try:
            assert others.stdout is not None
            assert others.stdout.readline() == b"started\n"
            for _ in range(5):
                found = read(kernel.netlink, "moorage", "sessions6")
                assert sorted(each.key for each in found) == [each.key for each in many]
        finally:
            os.killpg(others.pid, signal.SIGKILL)
