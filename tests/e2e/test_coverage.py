"""The table at the end of the end-to-end tests."""

from pathlib import Path

from e2e.harness import coverage


def test_it_counts_outcomes_for_each_area() -> None:
    ids = {
        "passed": ["e2e/test_seed.py::test_one", "e2e/test_seed.py::test_two[x::y]", "e2e/test_image.py::test_small"],
        "skipped": ["e2e/test_image.py::test_other"],
        "failed": ["e2e/test_seed.py::test_three"],
        "error": [],
    }
    described = {"test_seed.py": "The story", "test_image.py": "The image"}
    assert coverage.table(coverage.counts(ids), described) == [
        "covered:",
        "  The story     2 passed, 1 failed",
        "  The image     1 passed, 1 skipped",
        "  all           3 passed, 1 skipped, 1 failed",
    ]


def test_nothing_is_said_when_nothing_ran() -> None:
    assert coverage.table({}, {}) == []


def test_an_area_is_its_module_s_first_line(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text('"""What x does.\n\nMore.\n"""\n')
    (tmp_path / "other.py").write_text('"""No test."""\n')
    assert coverage.areas(tmp_path) == {"test_x.py": "What x does"}
