"""The table "moorings". Pure."""

import math
from statistics import median

from bench import objects
from bench.moorings import clients
from bench.moorings.measuring import OfNodes, OfPods, Options, Result
from bench.report import NOTICED_SECONDS, Aim, Row, Table, in_mib, in_seconds, limited

FULL_PODS = 10_000
"""Pods that the aims are for."""
COLD_SECONDS = 90.0
OF_BARE = 1.5
"""How many times as long as a client that only writes."""
PEAK_MIB = 500
BURST_SECONDS = 1.0
FAILED_SECONDS = 15.0


def moorings_table(options: Options, result: Result) -> Table:
    """What thousands of clients take. Aims hold for the full size."""
    aimed = options.pods == FULL_PODS
    title = (
        f"Moorings: {options.pods:,} pods x {options.groups} groups; then {options.nodes:,} nodes, "
        f"{options.nodes // clients.NODES_OF_ONE} endpoints"
    )
    note = (
        f"Each endpoint checked over TCP every {objects.INTERVAL_SECONDS} s, fall {objects.FALL}, time-out "
        f"{objects.TIMEOUT_SECONDS} s. Beside kube-apiserver, etcd and what measures, on the same processors. Pods "
        "exist and do not run. What changes is seen by a watch of the API."
    )
    rows = [*_of_pods(options, result.of_pods, aimed), *_of_nodes(options, result.of_nodes, aimed)]
    return Table(title, ("step", "measured"), rows, note)


def _of_pods(options: Options, of: OfPods, aimed: bool) -> list[Row]:
    burst = sorted(of.burst)
    p99 = burst[math.ceil(0.99 * len(burst)) - 1]
    return [
        limited("every pod assigned, from cold", in_seconds(of.cold), of.cold, COLD_SECONDS, "s", aimed),
        _times("  the same Moorings by a client that does nothing else", of.bare, of.cold, aimed),
        Row(
            (
                "  of that processor time: operator, API server with etcd",
                f"{of.cold_cpu:.1f} s, {of.cold_server_cpu:.1f} s",
            )
        ),
        Row(("  deciding", f"{of.deciding:.1f} s in {of.decisions:.0f} decisions")),
        Row(("  writes that were refused as stale", f"{of.conflicts:.0f}")),
        _steady(options, of.steady_writes, aimed),
        limited(
            f"{options.burst} pods made at once, until they are assigned: p99",
            in_seconds(p99),
            p99,
            BURST_SECONDS,
            "s",
            aimed,
        ),
        Row(("  median, all", f"{in_seconds(median(burst))}, {in_seconds(burst[-1])}")),
        limited(
            f"an endpoint with {of.lost:,} clients fails, until all are rewritten",
            in_seconds(of.failed),
            of.failed,
            FAILED_SECONDS,
            "s",
            aimed,
        ),
        _times("  the same writes by a client that does nothing else", of.bare_failed, of.failed, aimed),
        Row(("  from the endpoint's death, with the checks that notice it", in_seconds(of.failed_all))),
        limited("  writes", f"{of.failed_writes:,.0f}", of.failed_writes, of.lost, "", aimed),
        limited("peak memory", in_mib(of.peak_kib), of.peak_kib / 1024, PEAK_MIB, "MiB", aimed),
    ]


def _of_nodes(options: Options, of: OfNodes, aimed: bool) -> list[Row]:
    late = max(of.deaths, key=lambda each: each.seconds - each.writing)
    most = NOTICED_SECONDS + late.writing
    aim = Aim(f"≤ {most:.1f} s", late.seconds <= most) if aimed else None
    return [
        Row(("every node assigned and hinted, from cold", in_seconds(of.cold))),
        _steady(options, of.steady_writes, aimed),
        Row(
            (
                "packets are dropped, until the slices say not ready and have the new hints",
                in_seconds(median(each.seconds for each in of.deaths)),
            )
        ),
        Row((f"  worst of {len(of.deaths)}", in_seconds(late.seconds)), aim),
        Row(("  of that writing its Moorings", in_seconds(late.writing))),
        limited("peak memory", in_mib(of.peak_kib), of.peak_kib / 1024, PEAK_MIB, "MiB", aimed),
    ]


def _steady(options: Options, writes: float, aimed: bool) -> Row:
    return limited(f"writes in {options.seconds} s without a change", f"{writes:.0f}", writes, 0, "", aimed)


def _times(what: str, bare: float, took: float, aimed: bool) -> Row:
    aim = Aim(f"x ≤ {OF_BARE}", took <= OF_BARE * bare) if aimed else None
    return Row((what, f"{in_seconds(bare)} (x {took / bare:.2f})"), aim)
