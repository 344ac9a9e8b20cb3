"""`python -m mutation`: see `make mutants`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mutation.running import Copy, MutationError, copied
from mutation.sample import (
    ENOUGH_PERCENT,
    Equivalent,
    Outcome,
    Trial,
    equivalents,
    line,
    packages,
    rate,
    sample,
    trials,
)

ROOT = Path(__file__).parents[1]


def measure(copy: Copy, chosen: Sequence[Trial], known: Sequence[Equivalent]) -> list[Outcome]:
    """Try each, and say which survive as they do."""
    outcomes: list[Outcome] = []
    for trial in chosen:
        if any(each.is_of(trial) for each in known):
            outcomes.append("equivalent")
        elif copy.survives(trial):
            outcomes.append("survived")
            print(f"survived: {trial}", flush=True)
        else:
            outcomes.append("killed")
    return outcomes


def main() -> int:
    """0: enough is noticed in every package; 1: not; 2: it could not be found out."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help="of src/moorage (default: all)")
    parser.add_argument("--sample", type=int, default=30, metavar="N", help="changes of each package (default: 30)")
    parser.add_argument("--seed", default="1", help="another seed is another sample (default: 1)")
    options = parser.parse_args()
    there = packages(ROOT)
    if unknown := set(options.packages).difference(there):
        parser.error(f"{', '.join(sorted(unknown))}: no package of src/moorage; there are {', '.join(there)}")
    known = equivalents(ROOT)
    enough = True
    try:
        with copied(ROOT) as copy:
            copy.check()
            for package in options.packages or there:
                chosen = sample(trials(ROOT, package), options.sample, f"{options.seed} {package}")
                outcomes = measure(copy, chosen, known)
                print(line(package, outcomes), flush=True)
                enough = enough and rate(outcomes) >= ENOUGH_PERCENT
    except MutationError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
