import pytest

from moorage.api.meta import LabelSelector, LabelSelectorRequirement, ObjectMeta, labels_match, selects


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        (None, {"a": "b"}, False),
        ({}, {"a": "b"}, False),
        ({"a": "b"}, {"a": "b", "c": "d"}, True),
        ({"a": "b"}, {"a": "c"}, False),
        ({"a": "b"}, None, False),
    ],
)
def test_a_services_selector_matches_all_its_pairs_and_the_empty_one_nothing(
    selector: dict[str, str] | None, labels: dict[str, str] | None, matches: bool
) -> None:
    assert labels_match(selector, labels) is matches


@pytest.mark.parametrize(
    ("operator", "values", "matches"),
    [
        ("In", ["b", "c"], True),
        ("In", ["c"], False),
        ("NotIn", ["c"], True),
        ("NotIn", ["b"], False),
        ("Exists", None, True),
        ("DoesNotExist", None, False),
        ("Gt", ["1"], False),
    ],
)
def test_a_label_selectors_expressions_mean_what_they_mean_upstream(
    operator: str, values: list[str] | None, matches: bool
) -> None:
    requirement = LabelSelectorRequirement(key="a", operator=operator, values=values)
    assert selects(LabelSelector(match_expressions=[requirement]), {"a": "b"}) is matches


def test_a_label_selector_takes_in_what_has_all_its_labels_and_the_empty_one_all() -> None:
    assert selects(LabelSelector(), {})
    assert selects(LabelSelector(match_labels={"a": "b"}), {"a": "b", "c": "d"})
    assert not selects(LabelSelector(match_labels={"a": "b"}), None)


def test_a_key_reads_as_people_write_it() -> None:
    assert str(ObjectMeta(name="backend", namespace="frontend").key) == "frontend/backend"
    assert str(ObjectMeta(name="node-1").key) == "node-1"
