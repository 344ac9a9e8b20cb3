import contextlib
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage_lab.apiserver.patches import json_patch, merge_patch
from moorage_lab.apiserver.status import StatusError

# The examples of RFC 7386, appendix A.
MERGES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), MERGES)
def test_merge_patch_does_what_the_rfc_shows(target: Any, patch: Any, result: Any) -> None:
    before = copy.deepcopy(target)
    assert merge_patch(target, patch) == result
    assert target == before


DOCUMENT = {"a": {"b": [1, 2]}, "c/d": 1, "e~f": 2}


@pytest.mark.parametrize(
    ("operations", "result"),
    [
        ([{"op": "add", "path": "/a/b/1", "value": 9}], {"a": {"b": [1, 9, 2]}, "c/d": 1, "e~f": 2}),
        ([{"op": "add", "path": "/a/b/-", "value": 9}], {"a": {"b": [1, 2, 9]}, "c/d": 1, "e~f": 2}),
        ([{"op": "remove", "path": "/c~1d"}, {"op": "remove", "path": "/e~0f"}], {"a": {"b": [1, 2]}}),
        ([{"op": "replace", "path": "/a", "value": 0}], {"a": 0, "c/d": 1, "e~f": 2}),
        ([{"op": "move", "from": "/a/b", "path": "/g"}], {"a": {}, "c/d": 1, "e~f": 2, "g": [1, 2]}),
        ([{"op": "copy", "from": "/c~1d", "path": "/a/b/0"}], {"a": {"b": [1, 1, 2]}, "c/d": 1, "e~f": 2}),
        ([{"op": "test", "path": "/a/b/0", "value": 1}, {"op": "replace", "path": "", "value": {}}], {}),
    ],
)
def test_json_patch_carries_out_each_operation(operations: Any, result: Any) -> None:
    before = copy.deepcopy(DOCUMENT)
    assert json_patch(DOCUMENT, operations) == result
    assert before == DOCUMENT


@pytest.mark.parametrize(
    ("operations", "code"),
    [
        ({}, 400),
        ([{"op": "add", "path": "/a"}], 400),
        ([{"op": "nope", "path": "/a"}], 400),
        ([{"op": "remove", "path": "a"}], 400),
        ([{"op": "remove", "path": "/a/b/2"}], 422),
        ([{"op": "remove", "path": "/a/b/-1"}], 422),
        ([{"op": "replace", "path": "/nope", "value": 1}], 422),
        ([{"op": "add", "path": "/c~1d/x", "value": 1}], 422),
        ([{"op": "test", "path": "/a/b", "value": []}], 422),
    ],
)
def test_json_patch_refuses_what_does_not_fit(operations: Any, code: int) -> None:
    with pytest.raises(StatusError) as caught:
        json_patch(DOCUMENT, operations)
    assert caught.value.code == code


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(
    JSONS,
    st.lists(
        st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test"]),
                "path": st.sampled_from(["", "/a", "/a/b", "/0", "/a/-"]),
                "from": st.sampled_from(["", "/a", "/b"]),
                "value": JSONS,
            }
        ),
        max_size=4,
    ),
)
def test_json_patch_ends_in_a_document_or_a_status(target: Any, operations: Any) -> None:
    before = copy.deepcopy(target)
    with contextlib.suppress(StatusError):
        result = json_patch(target, operations)
        assert json.loads(json.dumps(result)) == result
        if all(each["op"] == "test" for each in operations):
            assert result == before, "a test changes nothing"
    assert target == before
