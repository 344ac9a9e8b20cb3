import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.manifest_yaml import (
    Document,
    TextError,
    TooManyValuesError,
    UnquotedError,
    bounded_documents,
    documents,
)

TEXT = st.text().filter(lambda text: text == text.encode(errors="ignore").decode())  # no half surrogate pairs
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


def value_of(text: str) -> Any:
    (found,) = documents(text)
    assert isinstance(found, Document), found
    return found.value


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("on", True), ("Off", False), ("yes", True), ("n", False), ("true", True), ("tRue", "tRue"),
        ("~", None), ("", None), ("null", None),
        ("80", 80), ("+80", 80), ("-1", -1), ("010", 8), ("0o10", 8), ("0x1F", 31), ("0b11", 3), ("1_000", 1000),
        ("08", 8), ("80.0", 80), ("1e3", 1000), ("80.5", 80.5), (".5", 0.5), ("1e999", "1e999"),
        ("2001-12-14", "2001-12-14"), ("2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"), ("12:30", "12:30"),
        ("1:30:00", "1:30:00"), ("10.0.0.1", "10.0.0.1"), ("10.96.0.0/12", "10.96.0.0/12"),
        ("2001:db8::1", "2001:db8::1"),
        ('"on"', "on"), ("'80'", "80"), ("!!str 80", "80"), ("!!int 80", 80),
        ("!!timestamp 2001-12-14", "2001-12-14"),
        ("=", "="), ("1.2.3", "1.2.3"), ("0.1.0", "0.1.0"), ("9" * 200, "9" * 200),
    ],
)  # fmt: skip
def test_a_scalar_is_what_kubectl_takes_it_for(plain: str, value: object) -> None:
    found = value_of(f"a: {plain}")["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("word", ["y", "yes", "on", "true", "n", "no", "off", "false"])
def test_yaml_1_1_has_many_words_for_true_and_false(word: str) -> None:
    spellings = {word, word.capitalize(), word.upper()}
    assert [value_of(f"a: {spelling}")["a"] for spelling in spellings] == [word[0] in "yt" or word == "on"] * len(
        spellings
    )


def test_keys_become_text_as_in_json() -> None:
    assert value_of("{80: a, on: b, 1.5: c, text: d}") == {"80": "a", "true": "b", "1.5": "c", "text": "d"}


def test_aliases_are_copies_and_merges_give_way_to_the_mapping_itself() -> None:
    value = value_of("base: &base {a: 1, b: {c: 2}}\nmore: {<<: *base, a: 3}\nboth: {<<: [*base, {d: 4}]}\n")
    assert value["more"] == {"a": 3, "b": {"c": 2}}
    assert value["both"] == {"a": 1, "b": {"c": 2}, "d": 4}
    assert value["more"]["b"] is not value["base"]["b"]


def test_anchors_that_blow_up_are_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    (found,) = documents("\n".join(rows))
    assert isinstance(found, TextError)
    assert str(found) == "line 4: aliases stand for more than 10000 values; write the values out"


def test_anchors_that_nest_too_deep_are_refused() -> None:
    nest = "[" * 60
    (found,) = documents(f"a: &a {nest}{']' * 60}\nb: {nest}*a{']' * 60}")
    assert str(found) == "line 2: nested more than 100 levels deep; flatten it"


@pytest.mark.parametrize("mark", ['"a"', "a"], ids=["JSON", "YAML"])
def test_a_document_may_nest_a_hundred_levels_and_no_more(mark: str) -> None:
    def nested(levels: int) -> str:
        return f"{{{mark}: {'[' * (levels - 1)}{']' * (levels - 1)}}}"

    (allowed,), (refused,) = documents(nested(100)), documents(nested(101))
    assert isinstance(allowed, Document)
    assert str(refused) == "line 1: nested more than 100 levels deep; flatten it"


def test_documents_keep_their_lines_and_empty_ones_are_left_out() -> None:
    text = "# first\n\na: 1\n---\n---\n# nothing\n---\nb: |\n  --- not a document\n--- {c: 3}\n...\n"
    assert list(documents(text)) == [
        Document(3, {"a": 1}),
        Document(8, {"b": "--- not a document\n"}),
        Document(10, {"c": 3}),
    ]


def test_directives_belong_to_the_document_after_them() -> None:
    assert list(documents("%YAML 1.1\n# comment\n---\na: 1\n")) == [Document(4, {"a": 1})]


def test_a_byte_order_mark_may_precede_any_document() -> None:
    text = "\ufeffa: 1\n---\n\ufeffb: 2\n\ufeff---\nc: 3\n...\n\ufeff# comment\n---\r\n\ufeffd: 4\r\n"
    expected = [Document(1, {"a": 1}), Document(3, {"b": 2}), Document(5, {"c": 3}), Document(9, {"d": 4})]
    assert list(documents(text)) == list(bounded_documents(text, 100)) == expected
    assert list(documents('\ufeff{"a": 1}')) == [Document(1, {"a": 1})]


@pytest.mark.parametrize("begin", ["---", "--- # comment", "---# comment", "---#", "---\t#", "--- "])
def test_a_comment_may_follow_the_beginning_of_a_document(begin: str) -> None:
    text = f"{begin}\na: 1\n{begin}\nb: '---#'\n"
    expected = [Document(2, {"a": 1}), Document(4, {"b": "---#"})]
    assert list(documents(text)) == list(bounded_documents(text, 100)) == expected


@pytest.mark.parametrize("before", ["---\n", "--- # comment\n", "---\n# comment\n\n"])
def test_a_bad_document_spoils_no_other(before: str) -> None:
    lines = len(before.splitlines()) + 2
    found = list(documents(f"a: 1\n{before}b: [\n---\nc: 3\n"))
    assert [document.value for document in found if isinstance(document, Document)] == [{"a": 1}, {"c": 3}]
    assert [str(error) for error in found if isinstance(error, TextError)] == [
        f"line {lines}: not valid YAML: did not find expected node content; "
        "look at the indentation, colons and quotes around this line"
    ]


def test_json_documents_may_follow_each_other_and_may_use_tabs_and_escapes() -> None:
    text = '{\n\t"a": "\\/\\ud83d\\ude00"}\n{"b": 1e2}'
    assert list(documents(text)) == [Document(1, {"a": "/😀"}), Document(3, {"b": 100.0})]


def test_a_flow_mapping_is_yaml_also_where_it_begins_like_json() -> None:
    assert value_of('{"a": b, c: 010}') == {"a": "b", "c": 8}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_json_has_no_number_that_is_not_finite(number: str) -> None:
    (found,) = documents(f'{{"a": {number}}}')
    assert str(found) == f"line 1: not valid JSON: {number} is not a number in JSON; use a finite number"


def test_half_a_surrogate_pair_is_refused() -> None:
    (found,) = documents('{"a": "\\ud800"}')
    assert str(found) == "line 1: half of a surrogate pair is not a character; remove the \\u escape"


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_json_is_read_as_json(value: dict[str, Any]) -> None:
    assert list(documents(json.dumps(value, indent=1))) == [Document(1, value)]


@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,?\n \t01.~<=\x00é\u2028", max_size=60))
def test_no_text_raises(text: str) -> None:
    for found in documents(text):
        assert isinstance(found, Document) or str(found).isprintable()


def test_reading_ends_after_as_many_values_as_are_allowed() -> None:
    text = '{"a": 1}\n---\nb: [1,\n2]\n'  # seven events, and nine
    assert list(bounded_documents(text, 100)) == [Document(1, {"a": 1}), Document(3, {"b": [1, 2]})]
    first, error = bounded_documents(text, 13)
    assert first == Document(1, {"a": 1})
    assert isinstance(error, TooManyValuesError)
    assert str(error) == "line 4: more than 13 values; leave out what is not used"


def test_where_time_matters_aliases_are_refused() -> None:
    (error,) = bounded_documents("a: &a [1]\nb: *a\n", 100)
    assert isinstance(error, UnquotedError)
    assert str(error) == "line 2: aliases are not supported; write the value out"
