"""The arithmetic of the benchmark's tables, and how they are written."""

from typing import Any

import pytest

from bench.connections import Round, Way
from bench.large import Cost
from bench.large import Options as LargeOptions
from bench.large import Result as LargeResult
from bench.operating import Options as OperatorOptions
from bench.operating import Result as OperatorResult
from bench.report import (
    Aim,
    connection_tables,
    large_table,
    limits,
    operator_table,
    ratio,
    sync_table,
)
from bench.scrape import Histogram
from bench.syncing import Options, Result


def rounds(*per_second: float, failed: int = 0, client: float = 0.3, machine: float = 0.5) -> list[Round]:
    return [Round(each, failed, 1000, 2000, client, 0.2, machine) for each in per_second]


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio(rounds(90, 9, 900), rounds(100, 10, 1000)) == 0.9


def test_what_is_busy_is_the_limit() -> None:
    assert limits([rounds(1, client=0.99)]) == "the client"
    assert limits([rounds(1, machine=0.99)]) == "the processors, all of them busy"
    assert (
        limits([rounds(1), rounds(1), rounds(1, client=1)])
        == "waiting for packets (2 of 3 ways), the client (1 of 3 ways)"
    )


def test_aims_compare_with_direct_and_with_one_service() -> None:
    measured = [
        (Way("direct"), rounds(1000)),
        (Way("moorage"), rounds(920)),
        (Way("moorage", 10, 10_000), rounds(860)),
        (Way("kube-proxy"), rounds(460)),
    ]
    first, second = connection_tables(measured)
    assert [row.aim for row in first.rows] == [
        None,
        Aim("≥ 0.90 of direct: 0.92", True),
        Aim("≥ 0.95 of 1 service: 0.93", False),
        None,
    ]
    assert [row.cells for row in second.rows] == [("2", "920", "460", "2.00", "543", "1087")]


@pytest.mark.parametrize(("large", "met"), [(940, True), (880, False)])
def test_moored_clients_are_compared_with_a_rule_and_with_a_node_that_has_one(large: float, met: bool) -> None:
    measured = [
        (Way("direct"), rounds(1000)),
        (Way("rule"), rounds(950)),
        (Way("moorage"), rounds(920)),
        (Way("mooring", moorings=1), rounds(960)),
        (Way("mooring", 2, 10_000, 100_000), rounds(large)),
    ]
    _, moored, _ = connection_tables(measured)
    assert [row.aim and row.aim.met for row in moored.rows] == [None, True, met]
    assert moored.rows[1].cells == ("1 mooring", "1 x 2", "960", "1.01", "0.96", "1.00", "521")


def result(seconds: float) -> Result:
    return Result(seconds, 5, 100 * 1024, 500 * 1024, 1.0, 2.0, [0.01, 0.02, 0.09], [0.02, 0.03, 0.1])


def test_aims_of_a_sync_hold_for_the_full_size_only() -> None:
    results = {"first": result(9), "unchanged": result(3), "changed": result(3)}
    full = sync_table(Options(10_000, 10, 3), results, "as root")
    missed = {row.cells[0] for row in full.rows if row.aim and not row.aim.met}
    assert missed == {"  worst of 3", "peak memory of nft", "restart, nothing changed"}
    assert not any(row.aim for row in sync_table(Options(1_000, 10, 3), results, "").rows)


def large(**changes: Any) -> LargeResult:
    good: dict[str, Any] = {
        "changes": [Cost(0.1, 0.05)] * 3,
        "listed": Cost(3, 2),
        "read": Cost(0.2, 0.1),
        "removed": Cost(0.4, 0.4),
        "restored": [Cost(0.9, 1.5)] * 5,
    }
    return LargeResult(**{**good, **changes})


def test_nft_is_compared_with_netlink_by_processor_time() -> None:
    rows = large_table(LargeOptions(1000, 3, 50_000, 1000), large()).rows
    assert rows[-3].cells == ("  to have nft list them", "3.00 s, processor 2.00 s (x 20)")
    assert all(row.aim.met for row in rows if row.aim)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"changes": [Cost(0.2, 0.1), Cost(0.3, 0.21), Cost(0.3, 0.21)]}, "one of 1,000 endpoints goes"),
        ({"removed": Cost(0.51, 0.4)}, "the endpoint of 50,000 sessions goes"),
        ({"restored": [Cost(0.9, 1), Cost(1.1, 1), Cost(1.1, 1)]}, "the table of 1,000 Services"),
    ],
)
def test_each_aim_of_a_large_service_can_be_missed(changes: dict[str, Any], missed: str) -> None:
    (row,) = (
        row
        for row in large_table(LargeOptions(1000, 3, 50_000, 1000), large(**changes)).rows
        if row.aim and not row.aim.met
    )
    assert row.cells[0].startswith(missed)
    assert not any(row.aim for row in large_table(LargeOptions(200, 3, 2000, 100), large(**changes)).rows)


def operated(**changes: Any) -> OperatorResult:
    good: dict[str, Any] = {
        "bare": 6.0,
        "cold": 9.0,
        "quiet": 30.0,
        "cold_cpu": 5.0,
        "cold_server_cpu": 8.0,
        "cold_writes": 3000,
        "checks": 25_000,
        "lateness": Histogram([0.05, 0.1, 0.25], [20_000, 24_800, 25_000, 25_000]),
        "core": 0.3,
        "writes": 0,
        "moved": [0.1, 0.2, 0.9],
        "refused": [5.0, 7.0],
        "silent": [6.0, 7.1],
        "peak_kib": 120 * 1024,
    }
    return OperatorResult(**{**good, **changes})


FULL = OperatorOptions(1000, 5, 10, 2, 3)


def test_an_operator_that_meets_its_aims_misses_none() -> None:
    aims = [row.aim for row in operator_table(FULL, operated()).rows if row.aim]
    assert len(aims) == 8
    assert all(aim.met for aim in aims)
    assert not any(row.aim for row in operator_table(OperatorOptions(100, 5, 10, 2, 3), operated()).rows)


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"cold": 10.1}, "all reconciled from cold"),
        ({"lateness": Histogram([0.05, 0.1, 0.25], [20_000, 24_700, 25_000, 25_000])}, "2,500 checks/s, late"),
        ({"core": 1.1}, "processor, steady"),
        ({"writes": 1}, "writes in 10 s without a change"),
        ({"peak_kib": 201 * 1024}, "peak memory"),
        ({"moved": [0.1, 1.1, 0.1]}, "  worst of 3"),
        ({"refused": [5.0, 7.2]}, "  worst of 2"),
        ({"silent": [5.0, 7.2]}, "  worst of 2"),
    ],
)
def test_each_aim_of_the_operator_can_be_missed(changes: dict[str, Any], missed: str) -> None:
    (row,) = (row for row in operator_table(FULL, operated(**changes)).rows if row.aim and not row.aim.met)
    assert row.cells[0].startswith(missed)
