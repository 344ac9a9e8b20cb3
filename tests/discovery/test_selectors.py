import pytest

from moorage.api.meta import LabelSelector, LabelSelectorRequirement
from moorage.discovery.selectors import text


def requirement(key: str, operator: str, *values: str) -> LabelSelectorRequirement:
    return LabelSelectorRequirement(key=key, operator=operator, values=list(values) or None)


@pytest.mark.parametrize(
    ("selector", "written"),
    [
        (LabelSelector(), None),
        (LabelSelector(match_labels={"tier": "db", "app": "backend"}), "app=backend,tier=db"),
        (
            LabelSelector(
                match_labels={"app": "backend"},
                match_expressions=[
                    requirement("tier", "In", "b", "a"),
                    requirement("zone", "NotIn", "z1"),
                    requirement("ready", "Exists"),
                    requirement("old", "DoesNotExist"),
                ],
            ),
            "app=backend,tier in (a,b),zone notin (z1),ready,!old",
        ),
    ],
)
def test_a_selector_is_written_as_a_list_request_has_it(selector: LabelSelector, written: str | None) -> None:
    assert text(selector) == written
