"""Tables on a terminal, and as markdown for the README."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.report import Aim, Table


def markdown(table: Table) -> str:
    """The table for a README."""
    aims = any(row.aim for row in table.rows)
    columns = (*table.columns, "aim") if aims else table.columns
    lines = [f"**{table.title}**", "", _line(columns), _line(["---"] * len(columns))]
    for row in table.rows:
        aim = [f"{row.aim.text} {_mark(row.aim)}" if row.aim else ""] if aims else []
        lines.append(_line([*row.cells, *aim]))
    return "\n".join([*lines, *(["", table.note] if table.note else [])]) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(each.strip() for each in cells)} |"


def _mark(aim: Aim) -> str:
    return "met" if aim.met else "MISSED"


def show(console: Console, table: Table) -> None:
    """Print it on a terminal."""
    aims = any(row.aim for row in table.rows)
    rich = RichTable(title=table.title, caption=table.note or None, title_justify="left", caption_justify="left")
    for index, column in enumerate(table.columns):
        rich.add_column(column, justify="right" if index else "left")
    if aims:
        rich.add_column("aim")
    for row in table.rows:
        style = "green" if row.aim and row.aim.met else "bold red"
        aim = [Text(f"{row.aim.text} {_mark(row.aim)}", style=style) if row.aim else ""] if aims else []
        rich.add_row(*row.cells, *aim)
    console.print(rich)
    console.print()
