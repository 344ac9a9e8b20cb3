"""Fits text into a terminal's width, with breaks only between words and between columns. Pure."""

import re
from collections.abc import Iterator, Sequence

_GAPS = (3, 2, 1)
"""Gaps between columns: as in kubectl, and smaller if that is too wide."""


def wrapped(text: str, width: int, first: str = "", then: str = "") -> str:
    """Each line of `text` after `first`; a line that is wider than `width` continues after `then`.

    A word that is wider than `width` is left whole.
    """
    lines = []
    for line in text.splitlines():
        if len(first + line) <= width:
            lines.append(first + line)
            continue
        current = first + line[: len(line) - len(line.lstrip())]
        start = len(current)
        for word in line.split():
            if len(current) > start and len(current) + 1 + len(word) > width:
                lines.append(current)
                current, start = then, len(then)
            current += word if len(current) == start else f" {word}"
        lines.append(current)
    return "\n".join(lines)


def command(line: str, comment: str, width: int) -> str:
    """A command line after a prompt, with a backslash where it continues; it can be pasted into a shell.

    `comment` comes after it, or in a line of its own before it.
    """
    whole = f"$ {line}   # {comment}" if comment else f"$ {line}"
    if len(whole) <= width:
        return whole
    lines = wrapped(f"$ {line}", width - 2, then="    ").split("\n")
    before = [wrapped(f"# {comment}", width, then="# ")] if comment else []
    return "\n".join([*before, *(f"{each} \\" for each in lines[:-1]), lines[-1]])


def table(text: str, width: int) -> str:
    """A table in kubectl's form; if it is too wide, with smaller gaps, and if need be in several bands of columns."""
    rows = _cells(text.splitlines())
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gap = next((gap for gap in _GAPS if sum(widths) + gap * (len(widths) - 1) <= width), _GAPS[0])
    return "\n".join(
        (" " * gap).join(row[i].ljust(widths[i]) for i in band).rstrip()
        for band in _bands(widths, gap, width)
        for row in rows
    )


def _cells(lines: Sequence[str]) -> list[list[str]]:
    """The cells of lines whose columns begin at the same positions as in the first line."""
    starts = [match.start() for match in re.finditer(r"\S+( \S+)*", lines[0])]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends, strict=True)] for line in lines]


def _bands(widths: Sequence[int], gap: int, width: int) -> Iterator[list[int]]:
    """Groups columns that fit beside each other."""
    band: list[int] = []
    used = 0
    for column, own in enumerate(widths):
        if band and used + gap + own > width:
            yield band
            band, used = [], 0
        used += own + (gap if band else 0)
        band.append(column)
    yield band
