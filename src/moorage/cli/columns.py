"""Text in columns, as kubectl prints it."""

from collections.abc import Sequence


def columns_of(rows: Sequence[Sequence[str]]) -> str:
    """Rows of equal length as lines, the columns three spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
