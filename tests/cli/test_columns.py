"""Rows of text in columns."""

import pytest

from moorage.cli.columns import columns_of


def test_a_column_is_as_wide_as_its_widest_cell_and_a_line_ends_with_its_last() -> None:
    rows = [["NAME", "ADDRESS", "PORT"], ["backend", "203.0.113.1", "80"], ["db", "-", ""]]
    assert columns_of(rows).split("\n") == [
        "NAME      ADDRESS       PORT",
        "backend   203.0.113.1   80",
        "db        -",
    ]


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        columns_of([["NAME", "PORT"], ["backend"]])
