from typing import Any

import pytest

from bench.hostile.measuring import Measured, Options
from bench.hostile.table import FULL_SECONDS, hostile_table
from bench.report import Aim
from bench.scrape import Histogram

FULL = Options(FULL_SECONDS, [])
BOUNDS = [0.05, 0.1, 1.0]


def measured(**changes: Any) -> Measured:
    good: dict[str, Any] = {
        "kind": "nobody",
        "what": "nobody hostile",
        "missed": 0,
        "lag": Histogram(BOUNDS, [5995, 6000, 6000, 6000]),
        "late": [0.02, 0.09, 0.3],
        "checks": 12_000,
        "died": [3.0, 4.1],
        "peak_kib": 341 * 1024,
        "cores": 0.5,
        "ended": False,
    }
    return Measured(**{**good, **changes})


def test_a_kind_that_keeps_all_aims_misses_none() -> None:
    (row,) = hostile_table(FULL, [measured()]).rows
    assert row.cells == ("nobody hostile", "0", "50 ms, 100 ms", "90 ms, 300 ms", "4.1 s", "341 MiB", "0.50")
    assert row.aim == Aim("all", True)


@pytest.mark.parametrize(
    ("changes", "missed", "cell"),
    [
        ({"missed": 1}, "renewals", "1"),
        ({"lag": Histogram(BOUNDS, [5993, 6000, 6000, 6000])}, "leader busy", "100 ms, 100 ms"),
        ({"lag": None}, "leader busy", "does not say"),
        ({"late": [0.02, 0.1, 0.3]}, "checks", "100 ms, 300 ms"),
        ({"died": [3.0, 4.2]}, "dead endpoint", "4.2 s"),
        ({"died": [3.0, None]}, "dead endpoint", "1 never"),
        ({"peak_kib": 342 * 1024}, "memory", "342 MiB"),
        ({"ended": True}, "it ended", "the operator ended"),
    ],
)
def test_each_aim_can_be_missed(changes: dict[str, Any], missed: str, cell: str) -> None:
    (row,) = hostile_table(FULL, [measured(**changes)]).rows
    assert row.aim == Aim(missed, False)
    assert cell in row.cells


def test_aims_hold_for_the_full_length_only() -> None:
    (row,) = hostile_table(Options(10, []), [measured(missed=9)]).rows
    assert row.aim is None
