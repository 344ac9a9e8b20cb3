"""`python -m e2e.churn`: a churn run by hand, as root. The status is 1 where a promise was broken."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from e2e.churn import history
from e2e.churn.checker import judge, report
from e2e.churn.history import AnyRecord
from e2e.churn.run import run
from e2e.harness import played
from e2e.harness.errors import HarnessError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m e2e.churn", description="Play a churn run, and judge it.")
    parser.add_argument("--seconds", type=float, default=75, help="how long there are faults (default: %(default)g)")
    parser.add_argument("--seed", type=int, help="what is done when; the same again with the same seed and length")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the history there")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="play nothing, but judge a history that was kept")
    chosen = parser.parse_args()
    if chosen.judge:
        records = history.read(chosen.judge)
    else:
        records = _played(random.randrange(2**32) if chosen.seed is None else chosen.seed, chosen.seconds)
        if chosen.keep:
            history.write(chosen.keep, records)
    judgement = judge(records)
    print(report(judgement))
    return 1 if judgement.violations else 0


def _played(seed: int, seconds: float) -> list[AnyRecord]:
    print(f"seed {seed}, {seconds:g} s", flush=True)
    with played.clusters() as both, tempfile.TemporaryDirectory(prefix="churn-") as directory:
        return run(both, Path(directory) / "run", seed, seconds)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as error:
        sys.exit(f"e2e: {error}")
