import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.show import show

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_a_number_too_long_to_write_is_described() -> None:
    assert show(10**5000) == "a number of more than 20 digits"


@given(JSON)
def test_any_value_is_shown_on_one_short_line_of_printable_ascii(value: object) -> None:
    shown = show(value)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 80 * 12  # an escaped character takes up to twelve


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("example.com/app", "example.com/app"),
        ("two words", '"two words"'),
        ("", '""'),
        ("-x", '"-x"'),
        ("\x1b[31m\n", '"\\u001b[31m\\n"'),
        ("x" * 81, f'"{"x" * 80}..."'),
        (99999, "99999"),
        (True, "true"),
        (None, "null"),
        (80.5, "80.5"),
        ({"a": 1}, "a mapping"),
        ([1], "a list"),
    ],
)
def test_a_value_is_shown_as_a_person_would_write_it(value: object, shown: str) -> None:
    assert show(value) == shown
