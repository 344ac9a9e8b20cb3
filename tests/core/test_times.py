"""Times as Kubernetes writes them."""

import pytest

from moorage.core.times import seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:01:00Z", 60),
        ("1970-01-01T00:01:00.5Z", 60.5),
        ("1970-01-01T01:01:00+01:00", 60),
        ("1970-01-01T00:01:00", 60),
        ("noon", None),
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_read_and_what_is_none_is_none(text: str | None, value: float | None) -> None:
    assert seconds(text) == value
