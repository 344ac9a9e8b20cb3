from typing import Any

import pytest

from bench.moorings.measuring import Death, OfNodes, OfPods, Options, Result
from bench.moorings.table import FULL_PODS, moorings_table

FULL = Options(FULL_PODS, 2, 100, 1000, 60, 2)


def measured(**changes: Any) -> Result:
    of_pods: dict[str, Any] = {
        "bare": 60.0,
        "cold": 90.0,
        "cold_cpu": 50.0,
        "cold_server_cpu": 70.0,
        "deciding": 5.0,
        "decisions": 20,
        "conflicts": 0,
        "steady_writes": 0,
        "burst": [0.2] * 99 + [3.0],
        "lost": 3000,
        "bare_failed": 10.0,
        "failed": 15.0,
        "failed_all": 20.0,
        "failed_writes": 3000,
        "peak_kib": 500 * 1024,
    }
    of_nodes: dict[str, Any] = {
        "cold": 5.0,
        "steady_writes": 0,
        "deaths": [Death(7.0, 0.02), Death(7.3, 0.2)],
        "peak_kib": 200 * 1024,
    }
    pods = {name: changes.get(name, value) for name, value in of_pods.items()}
    nodes = {name: changes.get(f"nodes_{name}", value) for name, value in of_nodes.items()}
    return Result(OfPods(**pods), OfNodes(**nodes))


def missed(**changes: Any) -> list[str]:
    return [row.cells[0] for row in moorings_table(FULL, measured(**changes)).rows if row.aim and not row.aim.met]


def test_an_operator_that_meets_its_aims_misses_none() -> None:
    assert missed() == []
    assert sum(row.aim is not None for row in moorings_table(FULL, measured()).rows) == 11


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"cold": 90.1, "bare": 70.0}, "every pod assigned"),
        ({"bare": 59.9}, "  the same Moorings by a client"),
        ({"steady_writes": 1}, "writes in 60 s without a change"),
        ({"burst": [0.2] * 98 + [1.1, 1.1]}, "100 pods made at once"),
        ({"failed": 15.1, "bare_failed": 11.0}, "an endpoint with 3,000 clients fails"),
        ({"bare_failed": 9.9}, "  the same writes by a client"),
        ({"failed_writes": 3001}, "  writes"),
        ({"peak_kib": 501 * 1024}, "peak memory"),
        ({"nodes_steady_writes": 1}, "writes in 60 s without a change"),
        ({"nodes_deaths": [Death(7.0, 0.02), Death(7.3, 0.1)]}, "  worst of 2"),
        ({"nodes_peak_kib": 501 * 1024}, "peak memory"),
    ],
)
def test_each_aim_can_be_missed(changes: dict[str, Any], what: str) -> None:
    (found,) = missed(**changes)
    assert found.startswith(what)


def test_aims_hold_for_the_full_size_only() -> None:
    small = Options(500, 2, 20, 100, 30, 2)
    assert not any(row.aim for row in moorings_table(small, measured(cold=1000)).rows)


def test_a_death_is_allowed_the_time_that_its_moorings_took_to_write() -> None:
    deaths = [Death(7.1, 0.0), Death(9.0, 2.0)]
    rows = [row for row in moorings_table(FULL, measured(nodes_deaths=deaths)).rows if "worst" in row.cells[0]]
    assert [(row.cells[1], row.aim and row.aim.met) for row in rows] == [("7.10 s", True)]
