"""How a table is written for the README."""

from bench.report import Aim, Row, Table
from bench.showing import markdown


def test_markdown_has_a_cell_for_each_column_of_each_row() -> None:
    table = Table("title", ("what", "much"), [Row(("a", "1"), Aim("≤ 2", True)), Row(("b", "2"))], "note")
    assert markdown(table).splitlines() == [
        "**title**",
        "",
        "| what | much | aim |",
        "| --- | --- | --- |",
        "| a | 1 | ≤ 2 met |",
        "| b | 2 |  |",
        "",
        "note",
    ]
