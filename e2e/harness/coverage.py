"""What a run of the tests covered, as a table. Pure but for `areas`."""

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path


def areas(directory: Path) -> dict[str, str]:
    """For each test module what it is about: its docstring's first line."""
    described = {}
    for path in sorted(directory.glob("test_*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or path.stem
        described[path.name] = text.splitlines()[0].removesuffix(".")
    return described


def counts(tests: Mapping[str, Sequence[str]]) -> dict[str, Counter[str]]:
    """From the tests' ids (`e2e/test_seed.py::test_x`) by outcome: for each module how many had which."""
    counted: dict[str, Counter[str]] = {}
    for outcome, ids in tests.items():
        for one in ids:
            module = one.partition("::")[0].rpartition("/")[2]
            counted.setdefault(module, Counter())[outcome] += 1
    return counted


def table(counted: Mapping[str, Counter[str]], described: Mapping[str, str]) -> list[str]:
    """The lines, with a total; empty when nothing ran."""
    if not counted:
        return []
    rows = [(described.get(module, module), outcomes) for module, outcomes in counted.items()]
    rows.append(("all", sum((outcomes for _, outcomes in rows), Counter())))
    width = min(90, max(len(area) for area, _ in rows))
    return ["covered:", *(f"  {area[:width]:<{width}}  {_row(outcomes)}" for area, outcomes in rows)]


def _row(outcomes: Counter[str]) -> str:
    return f"{outcomes['passed']:>4} passed" + "".join(
        f", {outcomes[outcome]} {word}"
        for outcome, word in (("skipped", "skipped"), ("failed", "failed"), ("error", "errors"))
        if outcomes[outcome]
    )
