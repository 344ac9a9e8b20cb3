"""Prints a story while it happens."""

import time
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from moorage_lab import layout, picture

Verdict = Literal["pass", "down"]
"""How to mark a check that holds: all is well, or the service is down because the story wants it."""
_STYLES = {"pass": "bold white on green", "down": "bold black on yellow", "FAIL": "bold white on red"}
_MARK = " " * 7


class Narrator:
    """Prints the story in the width of its console, and counts the checks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self.passed = 0
        self.failed = 0
        self._ended = False

    def act(self, title: str) -> None:
        """Begin a part of the story."""
        self._console.print()
        self._console.print(Rule(Text(title, "bold yellow"), characters="═", style="yellow"))

    def step(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, "bold"), align="left", style="cyan"))

    def command(self, line: str, comment: str = "") -> None:
        """Print a command that a person would type."""
        self._print(layout.command(line, comment, self._console.width), "bold cyan")

    def output(self, text: str) -> None:
        """Print the output of a command."""
        self._print(layout.wrapped(text, self._console.width, "  ", " " * 6))

    def table(self, text: str) -> None:
        """Print a table that a command would print."""
        self.output(layout.table(text, self._console.width - 2))

    def check(self, holds: bool, text: str, seen: str, verdict: Verdict = "pass") -> None:
        """Print one line: `text` if the check holds, what was `seen` instead if it does not."""
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        mark = verdict if holds else "FAIL"
        body = layout.wrapped(text if holds else seen, self._console.width, _MARK, _MARK).removeprefix(_MARK)
        self._console.print(Text(f" {mark} ", _STYLES[mark]).append(f" {body}", "default on default"), soft_wrap=True)

    def picture(self, outages: dict[str, picture.Outage]) -> None:
        """Print how long the service was down, each time."""
        for line in picture.draw(outages, self._console.width - 2):
            text = Text(f"  {line}")
            text.highlight_regex(f"{picture.DOWN}+", "red")
            text.highlight_regex(f"\\{picture.UP}+", "green")
            self._console.print(text, soft_wrap=True)
        self._console.print()

    def told(self, what: str, text: str, label: int) -> None:
        """Print one paragraph after a label of this many columns."""
        self._print(layout.wrapped(text, self._console.width, f"  {what.ljust(label)}", " " * (label + 2)))

    def to_try(self, title: str, commands: list[tuple[str, str]]) -> None:
        """Print commands, each below a line that says what it is for."""
        self.step(title)
        for comment, line in commands:
            self._print(layout.wrapped(f"# {comment}", self._console.width, then="# "), "dim")
            self._print(layout.command(line, "", self._console.width).removeprefix("$ "), "bold cyan")

    @property
    def holds(self) -> bool:
        """Whether the story reached its end and all checks hold."""
        return self._ended and self.failed == 0

    def end(self) -> None:
        self._ended = True
        seconds = time.monotonic() - self._started
        self._console.print()
        total = self.passed + self.failed
        style = "bold red" if self.failed else "bold green"
        self._console.print(Text(f"{self.passed} of {total} checks passed, in {seconds:.1f} s", style))

    def _print(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style), soft_wrap=True)


def shown(file: Path) -> str:
    """The path as a person in the current directory would write it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)
