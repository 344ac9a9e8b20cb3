"""Which changes are tried, by which tests, and what came of them. Pure but for reading the files."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from mutation.operators import Mutant, mutants

PRODUCT = Path("src/moorage")
ENOUGH_PERCENT = 93
"""Of the changes that are not equivalent, which the tests of every package must notice."""

Outcome = Literal["killed", "survived", "equivalent"]


class Trial(NamedTuple):
    """One change of one module of the product."""

    module: Path
    """Below the root of the repository."""
    mutant: Mutant

    def __str__(self) -> str:
        return f"{self.module}:{self.mutant.line}: {self.mutant.change}: {self.mutant.was}"


class Equivalent(NamedTuple):
    """A change that no test can notice, because behaviour stays the same, or because nobody promised it."""

    module: str
    was: str
    change: str
    reason: str

    def is_of(self, trial: Trial) -> bool:
        mutant = trial.mutant
        return (self.module, self.was, self.change) == (str(trial.module), mutant.was, mutant.change)


def packages(root: Path) -> list[str]:
    """The packages of the product that have code."""
    return sorted(path.name for path in (root / PRODUCT).iterdir() if (path / "__init__.py").is_file())


def trials(root: Path, package: str) -> list[Trial]:
    """All changes of a package."""
    modules = sorted((root / PRODUCT / package).rglob("*.py"))
    return [trial for path in modules for trial in trials_of(root, path.relative_to(root))]


def trials_of(root: Path, module: Path) -> list[Trial]:
    """All changes of a module."""
    return [Trial(module, each) for each in mutants((root / module).read_text())]


def sample(all_of: Sequence[Trial], count: int, seed: str) -> list[Trial]:
    """So many of them, the same ones for the same seed and code, in their order."""
    chosen = random.Random(seed).sample(range(len(all_of)), min(count, len(all_of)))
    return [all_of[index] for index in sorted(chosen)]


def suites_of(root: Path, module: Path) -> list[list[str]]:
    """What to run: the tests of this module, then those of its package; without those that there are not."""
    below = module.relative_to(PRODUCT)
    folder = root / "tests" / below.parent
    if not folder.is_dir():
        folder = root / "tests" / below.parts[0]
    mirrored = sorted(str(path.relative_to(root)) for path in folder.glob(f"test_{below.stem}*.py"))
    return [each for each in (mirrored, [str(folder.relative_to(root))] if folder.is_dir() else []) if each]


def equivalents(root: Path) -> list[Equivalent]:
    """The list that is kept in the repository."""
    return [Equivalent(**each) for each in yaml.safe_load((root / "mutation" / "equivalents.yml").read_text()) or ()]


def rate(outcomes: Iterable[Outcome]) -> float:
    """The percentage of those that are not equivalent that were killed; 100 where there are none."""
    counted = [each for each in outcomes if each != "equivalent"]
    return 100 * counted.count("killed") / len(counted) if counted else 100.0


def line(package: str, outcomes: Sequence[Outcome]) -> str:
    """A row of the report."""
    killed, survived, equal = (outcomes.count(each) for each in ("killed", "survived", "equivalent"))
    short = "" if rate(outcomes) >= ENOUGH_PERCENT else f", short of {ENOUGH_PERCENT} %"
    return f"{package:<12} {rate(outcomes):5.1f} %: {killed} killed, {survived} survived, {equal} equivalent{short}"
