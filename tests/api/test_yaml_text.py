"""What is written is read as what it was, by whoever reads as kubectl does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.manifest_yaml import Document, documents
from moorage.api.yaml_text import dump

TEXT = st.text() | st.text(alphabet="0123456789eEx_.+-:~yn<=#\u2028\ufeff\x85 \n'\"", max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(st.dictionaries(TEXT, VALUES, min_size=1, max_size=4))
def test_what_is_written_is_read_again(value: dict[str, Any]) -> None:
    (found,) = documents(dump(value))
    assert isinstance(found, Document), found
    assert found.value == value


@pytest.mark.parametrize("text", ["y", "N", "off", "1e3", "08", "010", "0o10", "1_000", "-.5", ".inf", "~", "a\x85b"])
def test_text_that_others_take_for_something_else_is_quoted(text: str) -> None:
    assert dump({"a": text}).startswith(('a: "', "a: '"))


def test_ordinary_text_is_not_quoted_and_nothing_is_an_alias() -> None:
    labels = {"app": "backend", "note": "zwei Wörter"}
    assert dump({"b": labels, "a": labels}) == (
        "b:\n  app: backend\n  note: zwei Wörter\na:\n  app: backend\n  note: zwei Wörter\n"
    )
    assert dump({"b": 1, "a": 2}, sort_keys=True) == "a: 2\nb: 1\n"
