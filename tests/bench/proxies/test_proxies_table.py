"""What the tables beside kube-proxy say of what was measured."""

import pytest

from bench.connections import Round
from bench.proxies.measuring import Changes, Options, Packets, Result
from bench.proxies.objects import Carrier
from bench.proxies.table import FULL_SERVICES, proxies_tables

OPTIONS = Options(2, 1, [2], [FULL_SERVICES], 3, 60)


def rounds(*per_second: float) -> list[Round]:
    return [Round(each, 0, 1000, 2000, 0.3, 0.2, 0.5) for each in per_second]


def changed(carrier: Carrier, took: list[float], services: int = FULL_SERVICES) -> Changes:
    return Changes("nftables", carrier, services, took, 0.02, 50 * 1024)


def measured(ours: list[float], theirs: list[float], services: int = FULL_SERVICES) -> Result:
    packets = [
        Packets("nftables", None, 0, rounds(1000, 100)),
        Packets("nftables", "moorage", 2, rounds(900, 90)),
        Packets("nftables", "kube-proxy", 2, rounds(950, 80)),
    ]
    return Result(packets, [changed("moorage", ours, services), changed("kube-proxy", theirs, services)])


def test_packets_are_compared_round_by_round() -> None:
    [row] = proxies_tables(OPTIONS, measured([0.02], [1.0]))[0].rows
    assert row.cells == ("nftables", "2", "550", "495", "1.0, 2.0", "515", "1.0, 2.0", "1.04")
    assert row.aim is not None
    assert row.aim.met


@pytest.mark.parametrize(
    ("ours", "theirs", "met"),
    [([0.03, 0.02, 0.01], [1, 1, 1], True), ([0.06], [2.0], False), ([0.02], [0.3], False)],
)
def test_a_change_must_be_fast_and_many_times_as_fast(ours: list[float], theirs: list[float], met: bool) -> None:
    [row] = proxies_tables(OPTIONS, measured(ours, theirs))[1].rows
    assert row.aim is not None
    assert row.aim.met == met


def test_aims_of_changes_hold_for_the_full_size_only_and_a_change_may_be_seen_at_once() -> None:
    [row] = proxies_tables(OPTIONS, measured([0.0], [0.5], 100))[1].rows
    assert row.aim is None
    assert row.cells[-1] == "500"


def test_a_node_that_did_not_keep_up_has_no_figures_and_the_table_says_why() -> None:
    table = proxies_tables(OPTIONS, measured([], []))[1]
    assert [row.cells for row in table.rows] == [("nftables", "5,000 x 10", "-", "-", "-", "-", "")]
    assert table.rows[0].aim is None
    assert "were still at the new Services after 300 s" in table.note
    assert "no figures" not in proxies_tables(OPTIONS, measured([0.02], [1.0]))[1].note
