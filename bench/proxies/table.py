"""From what was measured beside kube-proxy to tables. Pure."""

from collections.abc import Sequence
from statistics import median

from bench.connections import Round
from bench.proxies.measuring import MAX_BUSY_SECONDS, Changes, Options, Packets, Result
from bench.report import Aim, Row, Table, in_mib, in_ms, ratio

FULL_SERVICES = 5_000
"""Of each carrier, which the aims of changes are for."""
MIN_TIMES = 20
CHANGE_SECONDS = 0.05
_NOTHING = ("-", "-")


def proxies_tables(options: Options, result: Result) -> list[Table]:
    """Packets, and changes with what they cost."""
    return [_packets(options, result.packets), _changes(result.changes)]


def _packets(options: Options, packets: Sequence[Packets]) -> Table:
    by_way = {(each.mode, each.carrier, each.endpoints): each.rounds for each in packets}
    rows = []
    for mode in dict.fromkeys(each.mode for each in packets):
        direct = by_way[mode, None, 0]
        for count in options.endpoints:
            ours, theirs = by_way[mode, "moorage", count], by_way[mode, "kube-proxy", count]
            times = ratio(ours, theirs)
            cells = (
                mode,
                f"{count:,}",
                _per_second(direct),
                *(cell for each in (ours, theirs) for cell in (_per_second(each), _times(each))),
                f"{times:.2f}",
            )
            rows.append(Row(cells, Aim("≥ 1.00", times >= 1)))
    columns = (
        "kube-proxy's mode",
        "endpoints",
        "direct/s",
        "Moorage/s",
        "p50, p99 ms",
        "kube-proxy/s",
        "p50, p99 ms",
        "Moorage / kube-proxy",
    )
    note = (
        f"Medians of {options.rounds} rounds that took turns, one byte each way, 200 client addresses, ClientIP. "
        "On one node, kube-proxy and the agent beside each other. "
        f"Failed: {sum(one.failed for each in packets for one in each.rounds)}."
    )
    return Table("New connections/s beside kube-proxy 1.37", columns, rows, note)


def _changes(changes: Sequence[Changes]) -> Table:
    rows = []
    theirs = {(each.mode, each.services): each for each in changes if each.carrier == "kube-proxy"}
    for ours in changes:
        if ours.carrier != "moorage":
            continue
        other = theirs[ours.mode, ours.services]
        size = (ours.mode, f"{ours.services:,} x 10")
        if not ours.took:
            rows.append(Row((*size, *_NOTHING, *_NOTHING, "")))
            continue
        half, other_half = median(ours.took), median(other.took)
        times = other_half / max(half, 0.001)
        aim = None
        if ours.services == FULL_SERVICES:
            aim = Aim(
                f"p50 ≤ {in_ms(CHANGE_SECONDS)}, {MIN_TIMES} times faster",
                half <= CHANGE_SECONDS and times >= MIN_TIMES,
            )
        rows.append(Row((*size, *_figures(ours), *_figures(other), f"{times:.0f}"), aim))
    columns = (
        "kube-proxy's mode",
        "services x endpoints",
        "Moorage: p50, worst",
        "processor, memory",
        "kube-proxy: p50, worst",
        "processor, memory",
        "times",
    )
    counts = sorted({len(each.took) for each in changes if each.took}) or [0]
    made = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    note = (
        f"{made} changes each: an endpoint is taken out, and a client that was led to it connects all the time. "
        "From the API server's answer to the write until the client is led elsewhere, at most 3 ms of which are its "
        "pause. There are as many Services of the one as of the other. Processor: of a change and of the one that "
        "undoes it, with programs that were run. kube-proxy has minSyncPeriod 1ms, not 1s: it never waits."
    )
    if not all(each.took for each in changes):
        note += (
            " Where there are no figures, kube-proxy and the agent were still at the new Services after "
            f"{MAX_BUSY_SECONDS} s; both need the same lock of the kernel."
        )
    return Table("Change to kernel beside kube-proxy 1.37", columns, rows, note)


def _figures(each: Changes) -> tuple[str, str]:
    times = f"{in_ms(median(each.took))}, {in_ms(max(each.took))}"
    return times, f"{in_ms(each.cpu)}, {in_mib(each.peak_kib)}"


def _per_second(rounds: Sequence[Round]) -> str:
    return f"{median(each.per_second for each in rounds):,.0f}"


def _times(rounds: Sequence[Round]) -> str:
    return ", ".join(f"{median(getattr(each, what) for each in rounds) / 1000:.1f}" for what in ("p50_us", "p99_us"))
