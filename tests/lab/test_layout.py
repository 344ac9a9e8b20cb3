"""Text in a terminal's width."""

import shlex

import pytest

from moorage_lab import layout

TABLE = """\
NAME      HEALTHY   READY   REASON   SPEC       SOURCES    CHECKS          FAILING   AGE
backend   1/2       True    Ready    Accepted   Resolved   SomeUnhealthy   0s        2s
db                  False   Paused   Rejected   Resolved   AllHealthy      3m10s     4h"""


def test_a_line_that_fits_is_left_alone() -> None:
    assert layout.wrapped("  a   b", 9, first="  ") == "    a   b"


def test_a_longer_line_is_broken_between_words_and_goes_on_where_it_is_told() -> None:
    assert layout.wrapped("one two three", 9, "> ", "  ") == "> one two\n  three"
    assert layout.wrapped("\n".join(["one two three", "four"]), 9, "> ", "  ") == "> one two\n  three\n> four"


def test_a_word_that_is_too_wide_is_left_whole() -> None:
    assert layout.wrapped("a " + "b" * 9 + " c", 5, then="  ") == "a\n  bbbbbbbbb\n  c"


@pytest.mark.parametrize("width", [30, 40, 60, 200])
def test_a_command_can_be_pasted_however_it_is_broken(width: int) -> None:
    line = "moorage lab scale --cluster a -n backend deployment/backend2 --replicas 0"
    printed = layout.command(line, "until it is gone", width)
    assert all(len(each) <= width for each in printed.split("\n"))
    pasted = "\n".join(
        each for each in printed.removeprefix("$ ").replace("\n$ ", "\n").split("\n") if each[0] != "#"
    )
    assert shlex.split(pasted.replace("\\\n", ""), comments=True) == line.split()


def test_a_table_is_printed_as_it_is_where_it_fits() -> None:
    assert layout.table(TABLE, 90).splitlines()[:2] == TABLE.splitlines()[:2]


def test_columns_come_closer_before_a_table_is_broken() -> None:
    lines = layout.table(TABLE, 78).splitlines()
    assert lines[1] == "backend 1/2     True  Ready  Accepted Resolved SomeUnhealthy 0s      2s"
    assert len(lines) == 3


def test_a_table_that_is_too_wide_is_broken_between_columns() -> None:
    assert layout.table(TABLE, 40).splitlines() == [
        "NAME      HEALTHY   READY   REASON",
        "backend   1/2       True    Ready",
        "db                  False   Paused",
        "SPEC       SOURCES    CHECKS",
        "Accepted   Resolved   SomeUnhealthy",
        "Rejected   Resolved   AllHealthy",
        "FAILING   AGE",
        "0s        2s",
        "3m10s     4h",
    ]
