"""What answers of the demo's frontends show."""

import pytest

from moorage_lab.answers import Answer, waited

BEFORE = [
    Answer("", "backend1-x-y", "f-1", 1.0),
    Answer("", "backend2-x-y", "f-2", 1.5),
    Answer("", "backend1-x-y", "f-3", 2.0),
    Answer("refused", None),
    Answer("", "backend2-x-y", "f-2", 3.0),
]
FIRST, LAST = Answer("", "backend3-x-y", "f-1", 4.0), Answer("", "backend2-x-y", "f-3", 4.5)


@pytest.mark.parametrize(
    ("answers", "frontends", "seconds"),
    [
        (BEFORE, ["f-1", "f-3"], None),
        ([*BEFORE, FIRST], ["f-1", "f-3"], None),
        ([*BEFORE, FIRST, LAST], ["f-1", "f-3"], 3.0),
        ([*BEFORE, FIRST, LAST], ["f-3"], 2.5),
        ([*BEFORE, FIRST, LAST], ["f-2"], 1.0),
        ([*BEFORE[:1], BEFORE[3], FIRST], [], 3.0),
        (BEFORE[3:4], [], None),
        ([], ["f-1"], None),
    ],
)
def test_clients_have_left_a_backend_when_others_answer_each_of_them(
    answers: list[Answer], frontends: list[str], seconds: float | None
) -> None:
    assert waited(answers, "backend1", 0.5, frontends) == seconds
