"""An endpoint's name is a DNS label, is always the same, and says where it comes from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.core.names import MAX_LABEL_CHARACTERS, of_address, of_dns_name

LONGEST = "a" * MAX_LABEL_CHARACTERS


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("203.0.113.11", "203-0-113-11"),
        ("2001:db8::11", "2001-db8--11"),
        ("::11", "0--11"),
        ("2001:db8::", "2001-db8--0"),
        ("::", "0--0"),
    ],
)
def test_an_address_is_a_name_without_dots_and_colons(address: str, name: str) -> None:
    assert of_address(address) == name


@pytest.mark.parametrize(
    ("name", "label"),
    [("DB1.example.com.", "db1-example-com"), (LONGEST, LONGEST), (f"{LONGEST[:-2]}.b", f"{LONGEST[:-2]}-b")],
)
def test_a_dns_name_that_fits_is_kept_in_lower_case(name: str, label: str) -> None:
    assert of_dns_name(name) == label


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (f"{LONGEST}a", "a" * 52),
        ("_db.example.com", "db-example-com"),
        ("-db.example.com", "db-example-com"),
        ("db.example.com-", "db-example-com"),
        ("bücher.example", "b-cher-example"),
        ("...", "x"),
        ("_", "x"),
    ],
)
def test_of_one_that_does_not_fit_as_much_is_kept_as_can_be_with_a_hash(name: str, kept: str) -> None:
    before, _, digest = of_dns_name(name).rpartition("-")
    assert before == kept
    assert len(digest) == 10
    assert len(of_dns_name(name)) <= MAX_LABEL_CHARACTERS


@given(st.text(max_size=80))
def test_whatever_it_is_called_it_is_a_label(name: str) -> None:
    label = of_dns_name(name)
    assert 0 < len(label) <= MAX_LABEL_CHARACTERS
    assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert label.strip("-") == label


def test_two_that_differ_only_in_what_is_not_kept_have_different_names() -> None:
    assert len({of_dns_name(name) for name in ("_db.example", "db.example", "db_.example", "db.example_")}) == 4
