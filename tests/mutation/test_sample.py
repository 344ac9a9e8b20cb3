"""Which changes are tried, by which tests, and what is said of them."""

from pathlib import Path

import pytest

from mutation.operators import Mutant
from mutation.sample import (
    Equivalent,
    Outcome,
    Trial,
    equivalents,
    line,
    packages,
    rate,
    sample,
    suites_of,
    trials,
    trials_of,
)

ROOT = Path(__file__).parents[2]


def trial(number: int) -> Trial:
    return Trial(Path("src/moorage/core/health.py"), Mutant(number, f"a = {number}", "1 becomes 2", 0, 1, "2"))


def test_a_sample_is_the_same_for_the_same_seed_and_another_for_another() -> None:
    every = [trial(number) for number in range(100)]
    first = sample(every, 10, "1 core")
    assert first == sample(every, 10, "1 core")
    assert first != sample(every, 10, "2 core")
    assert first == sorted(first, key=lambda each: each.mutant.line)
    assert len(set(first)) == 10
    assert sample(every[:3], 10, "1 core") == every[:3]


def test_the_tests_of_the_module_are_run_before_those_of_its_package(tmp_path: Path) -> None:
    for name in ("core/test_health.py", "core/test_health_more.py", "core/test_other.py", "test_log.py"):
        path = tmp_path / "tests" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    mirrored = ["tests/core/test_health.py", "tests/core/test_health_more.py"]
    assert suites_of(tmp_path, Path("src/moorage/core/health.py")) == [mirrored, ["tests/core"]]
    assert suites_of(tmp_path, Path("src/moorage/core/nobody.py")) == [["tests/core"]]
    assert suites_of(tmp_path, Path("src/moorage/core/deep/x.py")) == [["tests/core"]]


@pytest.mark.parametrize(
    ("outcomes", "percent"),
    [
        ([], 100.0),
        (["equivalent"], 100.0),
        (["killed", "killed", "killed", "survived"], 75.0),
        (["killed", "equivalent", "survived"], 50.0),
    ],
)
def test_what_is_equivalent_does_not_count(outcomes: list[Outcome], percent: float) -> None:
    assert rate(outcomes) == percent


def test_a_package_that_falls_short_is_told() -> None:
    good: list[Outcome] = [*["killed"] * 93, *["survived"] * 7]  # type: ignore[list-item]
    more: list[Outcome] = ["survived", "equivalent"]
    assert line("core", good) == "core          93.0 %: 93 killed, 7 survived, 0 equivalent"
    assert line("core", [*good, *more]).endswith("8 survived, 1 equivalent, short of 93 %")


def test_an_equivalent_is_found_again_when_lines_move() -> None:
    known = Equivalent("src/moorage/core/health.py", "a = 7", "1 becomes 2", "nobody can tell")
    assert known.is_of(trial(7))
    assert not known.is_of(trial(8))


def test_every_equivalent_on_the_list_is_one_of_the_code_and_has_its_reason() -> None:
    for each in equivalents(ROOT):
        assert any(each.is_of(one) for one in trials_of(ROOT, Path(each.module))), each
        assert len(each.reason.split()) >= 3


def test_every_package_of_the_product_can_be_tried() -> None:
    assert {"api", "core", "operator", "node"} <= set(packages(ROOT))
    assert len(trials(ROOT, "node")) > 30
    assert {each.module.parent for each in trials(ROOT, "node")} == {Path("src/moorage/node")}
