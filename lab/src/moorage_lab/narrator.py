"""Prints a story while it happens."""

import time
from pathlib import Path
from textwrap import indent

from rich.console import Console
from rich.rule import Rule
from rich.text import Text


class Narrator:
    """Prints the story and keeps account of the checks."""

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

    def command(self, line: str) -> None:
        self._console.print(Text(f"$ {line}", "bold cyan"), soft_wrap=True)

    def output(self, text: str) -> None:
        self._console.print(Text(indent(text, "  ")), soft_wrap=True)

    def check(self, holds: bool, text: str, seen: str) -> None:
        """One line: `text` where it holds, what was `seen` in its place where it does not."""
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        verdict = Text(" pass ", "bold white on green") if holds else Text(" FAIL ", "bold white on red")
        self._console.print(verdict.append(f" {text if holds else seen}", "default on default"), soft_wrap=True)

    @property
    def holds(self) -> bool:
        """Whether the story came to its end and all its checks hold."""
        return self._ended and self.failed == 0

    def end(self) -> None:
        self._ended = True
        seconds = time.monotonic() - self._started
        self._console.print()
        total = self.passed + self.failed
        style = "bold red" if self.failed else "bold green"
        self._console.print(Text(f"{self.passed} of {total} checks passed, in {seconds:.1f} s", style))


def shown(file: Path) -> str:
    """The file as a person in the current directory would write it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)
