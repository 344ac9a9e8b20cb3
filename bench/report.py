"""From measurements to tables. Pure."""

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from bench import objects
from bench.connections import Round, Way
from bench.large import Cost
from bench.large import Options as LargeOptions
from bench.large import Result as LargeResult
from bench.operating import Options as OperatorOptions
from bench.operating import Result as OperatorResult
from bench.syncing import Options as SyncOptions
from bench.syncing import Result

MIN_SHARE_OF_DIRECT = 0.9
MIN_SHARE_OF_SMALL = 0.95
MIN_SHARE_OF_RULE = 0.97
MIN_MOORED_SHARE_OF_DIRECT = 0.85
FIRST_SECONDS = 10.0
CHANGE_SECONDS = 0.050
PYTHON_MIB = 200
NFT_MIB = 400
RESTART_SECONDS = 2.0
LARGE_CHANGE_SECONDS = 0.2
FORGOTTEN_SECONDS = 0.5
RESTORED_SECONDS = 1.0
FULL_SESSIONS = 50_000
"""Sessions that the aims of a large Service are for."""
FULL_SIZE = 10_000
"""Services that the aims are for."""
FULL_MOORINGS = 100_000
"""On the large node."""
OPERATOR_SIZE = 1_000
"""ExternalServices that the operator's aims are for."""
COLD_SECONDS = 10.0
LATE_SECONDS = 0.1
OPERATOR_CORES = 1.0
OPERATOR_MIB = 200
MOVED_SECONDS = 1.0
NOTICED_SECONDS = objects.INTERVAL_SECONDS * objects.FALL + objects.TIMEOUT_SECONDS + 0.1
BUSY = 0.95
"""Share of a processor, or of all, from which on it is the limit."""


class Aim(NamedTuple):
    """What a value was to be, and whether it is."""

    text: str
    met: bool


class Row(NamedTuple):
    cells: tuple[str, ...]
    aim: Aim | None = None


class Table(NamedTuple):
    """The aim is a last column, where any row has one."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]
    note: str = ""


def ratio(rounds: Sequence[Round], base: Sequence[Round]) -> float:
    """Median of the ratios of connections per second, round by round: what slows all of a round down cancels out."""
    return median(a.per_second / b.per_second for a, b in zip(rounds, base, strict=True))


def limits(measured: Sequence[Sequence[Round]]) -> str:
    """What kept the connections from being more: of each way one thing, most frequent first."""
    found = Counter(_limit(rounds) for rounds in measured)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{what} ({count} of {len(measured)} ways)" for what, count in found.most_common())


def _limit(rounds: Sequence[Round]) -> str:
    if median(each.client_cores for each in rounds) >= BUSY:
        return "the client"
    if median(each.server_cores for each in rounds) >= BUSY:
        return "the server"
    if median(each.machine_share for each in rounds) >= BUSY:
        return "the processors, all of them busy"
    return "waiting for packets"


_NAMES = {
    "untracked": "direct, conntrack off",
    "direct": "direct",
    "rule": "one DNAT rule, written by hand",
    "mooring": "Moorage, clients moored",
    "moorage": "Moorage",
    "kube-proxy": "kube-proxy's rules",
    "haproxy": "HAProxy, stick table",
}


def connection_tables(measured: Sequence[tuple[Way, Sequence[Round]]]) -> list[Table]:
    """New connections per second: by the way that they take, and by the number of endpoints."""
    by_way = dict(measured)
    direct = by_way[Way("direct")]
    small = by_way[Way("moorage")]
    rows = []
    for way, rounds in measured:
        if way.kind == "mooring":
            continue
        aim = None
        if way == Way("moorage"):
            aim = _at_least(ratio(rounds, direct), MIN_SHARE_OF_DIRECT, "of direct")
        elif way.kind == "moorage" and way.services > 1:
            aim = _at_least(ratio(rounds, small), MIN_SHARE_OF_SMALL, "of 1 service")
        size = f"{way.services:,} x {way.endpoints:,}" if way.kind not in ("untracked", "direct") else ""
        cells = (
            _NAMES[way.kind],
            size,
            f"{median(each.per_second for each in rounds):,.0f}",
            f"{ratio(rounds, direct):.2f}",
            _processor_us(rounds) if way.kind != "haproxy" else "",  # Its own time is not in it.
            f"{median(each.p50_us for each in rounds) / 1000:.1f}",
            f"{median(each.p99_us for each in rounds) / 1000:.1f}",
            str(sum(each.failed for each in rounds)),
        )
        rows.append(Row(cells, aim))
    count = len(measured[0][1])
    note = (
        f"Medians of {count} rounds that took turns, one byte each way, 200 client addresses, session affinity "
        "ClientIP. Direct: through the same node, which tracks connections, as every node does that has a proxy. "
        "µs each: processor time of client and server, with what the kernel does in their name. What kept the "
        "connections "
        f"from being more: {limits([each for _, each in measured])}."
    )
    columns = (
        "way",
        "services x endpoints",
        "new connections/s",
        "of direct",
        "µs each",
        "p50 ms",
        "p99 ms",
        "failed",
    )
    return [Table("New connections", columns, rows, note), *_moored_table(measured), _affinity_table(by_way)]


def _moored_table(measured: Sequence[tuple[Way, Sequence[Round]]]) -> list[Table]:
    """New connections of moored clients, beside a rule that a person would write. None if they were not measured."""
    by_way = dict(measured)
    ways = [way for way in by_way if way.kind == "mooring"]
    if not ways:
        return []
    rule, direct, least = by_way[Way("rule")], by_way[Way("direct")], by_way[ways[0]]
    per_second = f"{median(each.per_second for each in rule):,.0f}"
    rows = [Row((_NAMES["rule"], "", per_second, "1.00", f"{ratio(rule, direct):.2f}", "", _processor_us(rule)))]
    for way in ways:
        rounds = by_way[way]
        of_rule, of_direct, of_least = (ratio(rounds, base) for base in (rule, direct, least))
        aim = Aim(
            f"≥ {MIN_SHARE_OF_RULE:.2f} of the rule, {MIN_MOORED_SHARE_OF_DIRECT:.2f} of direct, "
            f"{MIN_SHARE_OF_SMALL:.2f} of the first",
            of_rule >= MIN_SHARE_OF_RULE
            and of_direct >= MIN_MOORED_SHARE_OF_DIRECT
            and of_least >= MIN_SHARE_OF_SMALL,
        )
        per_second = f"{median(each.per_second for each in rounds):,.0f}"
        shares = (f"{each:.2f}" for each in (of_rule, of_direct, of_least))
        named = f"{way.moorings:,} mooring{'' if way.moorings == 1 else 's'}"
        size = f"{way.services:,} x {way.endpoints}"
        rows.append(Row((named, size, per_second, *shares, _processor_us(rounds)), aim))
    columns = (
        "way",
        "services x endpoints",
        "new connections/s",
        "of the rule",
        "of direct",
        "of the first",
        "µs each",
    )
    note = "From the same rounds. `whilePending: Hold`, so the sets of clients that wait are looked at, too."
    return [Table("New connections of moored clients", columns, rows, note)]


def _processor_us(rounds: Sequence[Round]) -> str:
    return f"{median(1e6 * (each.client_cores + each.server_cores) / each.per_second for each in rounds):.0f}"


def _affinity_table(by_way: dict[Way, Sequence[Round]]) -> Table:
    rows = []
    for way, rounds in sorted(by_way.items(), key=lambda each: each[0].endpoints):
        ours = by_way.get(Way("moorage", way.endpoints))
        if way.kind == "kube-proxy" and ours is not None:
            each = (f"{median(one.per_second for one in both):,.0f}" for both in (ours, rounds))
            times = (_processor_us(ours), _processor_us(rounds))
            rows.append(Row((f"{way.endpoints:,}", *each, f"{ratio(ours, rounds):.2f}", *times)))
    columns = ("endpoints", "Moorage", "kube-proxy's rules", "Moorage / kube-proxy", "µs: Moorage", "µs: kube-proxy")
    return Table("New connections/s with session affinity, by endpoints", columns, rows, "From the same rounds.")


def sync_table(options: SyncOptions, results: dict[str, Result], privileges: str) -> Table:
    """What it takes to bring the API's objects to the kernel. Aims hold for the full size."""
    first, unchanged, changed = results["first"], results["unchanged"], results["changed"]
    aimed = options.services == FULL_SIZE
    until, swept = first.until_kernel, first.until_swept
    rows = [
        limited("first sync", in_seconds(first.seconds), first.seconds, FIRST_SECONDS, "s", aimed),
        Row(
            (
                "  of that processor time: Python, its programs",
                f"{first.python_cpu:.1f} s, {first.programs_cpu:.1f} s",
            )
        ),
        limited(
            "one endpoint change, median",
            in_ms(median(until)),
            median(until) * 1000,
            CHANGE_SECONDS * 1000,
            "ms",
            aimed,
        ),
        limited(f"  worst of {len(until)}", in_ms(max(until)), max(until) * 1000, CHANGE_SECONDS * 1000, "ms", aimed),
        Row(("  until flows are swept: median, worst", f"{in_ms(median(swept))}, {in_ms(max(swept))}")),
        limited("peak memory of Python", in_mib(first.python_kib), first.python_kib / 1024, PYTHON_MIB, "MiB", aimed),
        limited("peak memory of nft", in_mib(first.nft_kib), first.nft_kib / 1024, NFT_MIB, "MiB", aimed),
        limited(
            "restart, nothing changed", in_seconds(unchanged.seconds), unchanged.seconds, RESTART_SECONDS, "s", aimed
        ),
        Row(("  peak memory: Python, nft", f"{in_mib(unchanged.python_kib)}, {in_mib(unchanged.nft_kib)}")),
        Row(("restart, one service changed", in_seconds(changed.seconds))),
        Row(("  peak memory: Python, nft", f"{in_mib(changed.python_kib)}, {in_mib(changed.nft_kib)}")),
    ]
    title = f"Sync of {options.services:,} services x {options.endpoints} endpoints, {privileges}"
    note = f"ClientIP; from the API's JSON to the kernel, in {first.transactions} transactions."
    return Table(title, ("step", "measured"), rows, note)


def large_table(options: LargeOptions, result: LargeResult) -> Table:
    """What one large Service costs. Aims hold for the full size."""
    aimed = options.sessions == FULL_SESSIONS
    processor, took = ([getattr(each, what) for each in result.changes] for what in ("processor", "took"))
    removed = result.removed.took
    rows = [
        limited(
            f"one of {options.endpoints:,} endpoints goes: processor time, median",
            in_ms(median(processor)),
            median(processor) * 1000,
            LARGE_CHANGE_SECONDS * 1000,
            "ms",
            aimed,
        ),
        Row((f"  until flows are swept: median, worst of {len(took)}", f"{in_ms(median(took))}, {in_ms(max(took))}")),
        limited(
            f"the endpoint of {options.sessions:,} sessions goes, until they are forgotten",
            in_seconds(removed),
            removed * 1000,
            FORGOTTEN_SECONDS * 1000,
            "ms",
            aimed,
        ),
        Row(("  of that processor time", in_seconds(result.removed.processor))),
        Row(("  to read them over netlink", _and_processor(result.read))),
        Row(
            (
                "  to have nft list them",
                f"{_and_processor(result.listed)} (x {result.listed.processor / result.read.processor:.0f})",
            )
        ),
        limited(
            f"the table of {options.services:,} Services x 10 endpoints is deleted, until it is there again: median",
            in_seconds(median(each.took for each in result.restored)),
            median(each.took for each in result.restored) * 1000,
            RESTORED_SECONDS * 1000,
            "ms",
            aimed,
        ),
        Row(
            (
                f"  worst of {len(result.restored)}; processor time",
                f"{in_seconds(max(each.took for each in result.restored))}; "
                f"{in_seconds(median(each.processor for each in result.restored))}",
            )
        ),
    ]
    return Table("Large Services", ("step", "measured"), rows, "ClientIP, as root, with nothing else on the node.")


def _and_processor(cost: Cost) -> str:
    return f"{in_seconds(cost.took)}, processor {in_seconds(cost.processor)}"


def operator_table(options: OperatorOptions, result: OperatorResult) -> Table:
    """What the operator takes. Aims hold for the full size."""
    aimed = options.services == OPERATOR_SIZE
    late = [result.lateness.quantile(share) for share in (0.5, 0.99, 1.0)]
    rate = result.checks / options.seconds
    rows = [
        limited("all reconciled from cold", in_seconds(result.cold), result.cold, COLD_SECONDS, "s", aimed),
        Row(
            (
                "  of that processor time: operator, API server with etcd",
                f"{result.cold_cpu:.1f} s, {result.cold_server_cpu:.1f} s",
            )
        ),
        Row(("  writes, without Events", f"{result.cold_writes:,.0f}")),
        Row(
            (
                "  the same writes by a client that does nothing else",
                f"{in_seconds(result.bare)} (x {result.cold / result.bare:.2f})",
            )
        ),
        Row(("  until the last Event is written", in_seconds(result.quiet))),
        limited(
            f"{rate:,.0f} checks/s, late at most: p99",
            in_ms(late[1]),
            late[1] * 1000,
            LATE_SECONDS * 1000,
            "ms",
            aimed,
        ),
        Row(("  p50, all", f"{in_ms(late[0])}, {in_ms(late[2])}")),
        limited("processor, steady", f"{result.core:.2f} cores", result.core, OPERATOR_CORES, "core", aimed),
        limited(
            f"writes in {options.seconds} s without a change", f"{result.writes:.0f}", result.writes, 0, "", aimed
        ),
        limited("peak memory", in_mib(result.peak_kib), result.peak_kib / 1024, OPERATOR_MIB, "MiB", aimed),
        *_worst("load balancer's address changes, until the slice has it", result.moved, MOVED_SECONDS, aimed),
        *_worst("port is closed, until the slice says not ready", result.refused, NOTICED_SECONDS, aimed),
        *_worst("packets are dropped, until the slice says not ready", result.silent, NOTICED_SECONDS, aimed),
    ]
    title = f"Operator: {options.services:,} ExternalServices x {options.endpoints} endpoints"
    note = (
        f"Each endpoint checked over TCP every {objects.INTERVAL_SECONDS} s, fall {objects.FALL}, time-out "
        f"{objects.TIMEOUT_SECONDS} s. Beside kube-apiserver, etcd and the endpoints, on the same processors. "
        "What changes is seen by a watch of the API."
    )
    return Table(title, ("step", "measured"), rows, note)


def _worst(what: str, seconds: Sequence[float], most: float, aimed: bool) -> list[Row]:
    aim = Aim(f"≤ {most:.1f} s", max(seconds) <= most) if aimed else None
    return [
        Row((what, in_seconds(median(seconds)))),
        Row((f"  worst of {len(seconds)}", in_seconds(max(seconds))), aim),
    ]


def limited(what: str, text: str, value: float, most: float, unit: str, aimed: bool) -> Row:
    return Row((what, text), Aim(f"≤ {most:.0f} {unit}".rstrip(), value <= most) if aimed else None)


def _at_least(value: float, least: float, of: str) -> Aim:
    return Aim(f"≥ {least:.2f} {of}: {value:.2f}", value >= least)


def in_seconds(value: float) -> str:
    return f"{value:.2f} s"


def in_ms(value: float) -> str:
    return f"{value * 1000:.0f} ms"


def in_mib(kib: int) -> str:
    return f"{kib / 1024:.0f} MiB"
