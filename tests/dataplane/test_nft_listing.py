"""How nft's output is read, and what is said if there is no nft."""

import pytest

from moorage import proc
from moorage.dataplane.nft import (
    KernelNft,
    ListedElement,
    NftError,
    parse_elements,
)


async def test_a_missing_nft_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(proc.ProgramMissingError, match="apt-get install nftables"):
        await KernelNft().run("")


def listing(kind: str, types: str, elements: str) -> str:
    return (
        '{"nftables": [{"metainfo": {"version": "1.1.3", "release_name": "x", "json_schema_version": 1}}, '
        f'{{"{kind}": {{"family": "inet", "name": "x", "table": "moorage", "type": {types}, "handle": 3, '
        f'"elem": {elements}}}}}]}}'
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (listing("set", '"ipv4_addr"', '["10.96.0.1"]'), ListedElement(("10.96.0.1",))),
        (listing("set", '"inet_proto"', "[6]"), ListedElement(("tcp",))),
        (listing("set", '["ipv4_addr", "inet_proto"]', '[{"concat": ["::", 132]}]'), ListedElement(("::", 132))),
        (listing("set", '["inet_proto"]', '[{"concat": ["udp"]}]'), ListedElement(("udp",))),
        (
            listing("set", '"inet_service"', '[{"elem": {"val": 1, "comment": "c"}}]'),
            ListedElement((1,), comment="c"),
        ),
        (
            listing("map", '["inet_service", "inet_proto"]', '[[{"concat": [6, 6]}, {"goto": {"target": "x"}}]]'),
            ListedElement((6, "tcp"), "x"),
        ),
        (
            listing(
                "map",
                '["ipv4_addr", "inet_service"]',
                '[[{"elem": {"val": {"concat": ["10.0.0.1", 80]}, "timeout": 30, "expires": 29}}, '
                '{"concat": ["203.0.113.1", 80]}]]',
            ),
            ListedElement(("10.0.0.1", 80), ("203.0.113.1", 80), 30, 29),
        ),
        (
            listing(
                "map",
                '{"typeof": {"concat": [{"payload": {"protocol": "ip", "field": "protocol"}}, '
                '{"payload": {"protocol": "th", "field": "dport"}}]}}',
                '[[{"concat": [17, 17]}, 5]]',
            ),
            ListedElement(("udp", 17), (5,)),
        ),
        (listing("map", '"inet_service"', '[[80, {"drop": null}]]'), ListedElement((80,), "drop")),
        (listing("map", '"inet_service"', '[[80, {"accept": null}]]'), ListedElement((80,), "accept")),
    ],
)
def test_reads_the_forms_in_which_nft_lists_an_element(text: str, expected: ListedElement) -> None:
    assert parse_elements(text) == [expected]


def test_a_set_without_elements_has_none() -> None:
    assert parse_elements('{"nftables": [{"set": {"name": "x", "type": "ipv4_addr"}}]}') == []


@pytest.mark.parametrize("text", ["", "{}", '{"nftables": [{"set": {"type": "x", "elem": [{"prefix": {}}]}}]}'])
def test_a_listing_that_cannot_be_read_is_said_in_one_line(text: str) -> None:
    with pytest.raises(NftError, match="its listing cannot be read"):
        parse_elements(text)
