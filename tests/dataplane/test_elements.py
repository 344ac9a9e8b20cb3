"""Elements over netlink, where the fake has nothing of its own: `test_nft` has what holds of both."""

import errno
import os
import signal
import subprocess

import pytest

from moorage.dataplane.elements import MAX_ELEMENTS, RawElement, read, replace
from moorage.dataplane.layout import Layout
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


def test_the_largest_transaction_that_is_made_is_taken(kernel: Namespace) -> None:
    many = [element(number) for number in range(MAX_ELEMENTS)]
    replace(kernel.netlink, "moorage", "sessions6", [], many)
    assert sorted(each.key for each in read(kernel.netlink, "moorage", "sessions6")) == [each.key for each in many]
    replace(kernel.netlink, "moorage", "sessions6", many, many)
    assert len(read(kernel.netlink, "moorage", "sessions6")) == MAX_ELEMENTS


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
    for start in range(0, len(many), MAX_ELEMENTS):
        replace(kernel.netlink, "moorage", "sessions6", [], many[start : start + MAX_ELEMENTS])
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
