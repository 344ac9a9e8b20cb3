import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.dataplane.layout import Layout
from moorage.dataplane.nft import Word

WORDS: dict[str, st.SearchStrategy[Word]] = {
    "ipv4_addr": st.ip_addresses(v=4).map(str),
    "ipv6_addr": st.ip_addresses(v=6).map(lambda each: str(ipaddress.IPv6Address(int(each)))),
    "inet_proto": st.sampled_from(["tcp", "udp", 0, 132, 255]),
    "inet_service": st.integers(0, 65535),
}


@given(st.lists(st.sampled_from(sorted(WORDS)), min_size=1, max_size=5), st.data())
def test_words_are_read_as_they_were_written(types: list[str], data: st.DataObject) -> None:
    words = tuple(data.draw(WORDS[each]) for each in types)
    layout = Layout(types)
    packed = layout.pack(words)
    assert layout.unpack(packed) == words
    assert len(packed) == layout.size
    assert len(packed) % 4 == 0


@pytest.mark.parametrize(
    ("types", "words", "expected"),
    [
        (["ipv4_addr", "inet_proto", "inet_service"], ("10.96.0.1", "tcp", 80), "0a600001 06000000 00500000"),
        (["ipv6_addr", "inet_service"], ("fd00::1", 443), "fd000000 00000000 00000000 00000001 01bb0000"),
        (["inet_proto"], ("udp",), "11000000"),
    ],
)
def test_each_word_is_filled_up_to_four_bytes(types: list[str], words: tuple[Word, ...], expected: str) -> None:
    assert Layout(types).pack(words).hex(" ", 4) == expected
