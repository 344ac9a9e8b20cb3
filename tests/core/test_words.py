"""The words that all messages share."""

import pytest

from moorage.core.words import client_noun, counted, cut


@pytest.mark.parametrize(("text", "expected"), [("", ""), ("abcd", "abcd"), ("abcde", "abc…")])
def test_a_text_is_cut_only_where_it_is_too_long(text: str, expected: str) -> None:
    assert cut(text, 4) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 endpoints"), (1, "1 endpoint"), (2, "2 endpoints"), (11, "11 endpoints")]
)
def test_one_is_no_plural(count: int, expected: str) -> None:
    assert counted(count, "endpoint") == expected


@pytest.mark.parametrize(
    ("kind", "expected"), [("Node", "2 nodes"), ("Namespace", "2 namespaces"), ("Label", "2 label values")]
)
def test_clients_of_each_kind_have_one_name_everywhere(kind: str, expected: str) -> None:
    assert counted(2, client_noun(kind)) == expected
