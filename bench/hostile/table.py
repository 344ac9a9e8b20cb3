"""The table "hostile neighbours". Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from bench.hostile import objects
from bench.hostile.measuring import Measured, Options
from bench.report import Aim, Row, Table

LAG_SECONDS = 0.050
LATE_SECONDS = 0.1
NOTICED_SECONDS = objects.INTERVAL_SECONDS * objects.FALL + objects.TIMEOUT_SECONDS + 0.1
LIMIT_MIB = 512
"""Of the operator's Deployment."""
PEAK_MIB = LIMIT_MIB * 2 / 3
FULL_SECONDS = 60
"""Length that the aims are for."""


class _Cell(NamedTuple):
    text: str
    met: bool = True
    what: str = ""
    """For the list of what was missed."""


def hostile_table(options: Options, measured: Sequence[Measured]) -> Table:
    """What neighbours cost the others. Aims hold for the full length."""
    rows = []
    for each in measured:
        cells = _cells(each)
        wrong = [cell.what for cell in cells if not cell.met]
        aim = Aim(", ".join(wrong) or "all", not wrong) if options.seconds >= FULL_SECONDS else None
        rows.append(Row((each.what, *(cell.text for cell in cells)), aim))
    columns = (
        "neighbours",
        "Lease renewals missed",
        "leader busy: p99.9, longest",
        "checks late: p99, longest",
        "dead endpoint out",
        "peak memory",
        "cores",
    )
    note = (
        f"Each kind for {options.seconds} s, beside an honest tenant with {objects.endpoints()} endpoints, most of "
        f"them checked over TCP, every {objects.INTERVAL_SECONDS} s (fall {objects.FALL}, time-out "
        f"{objects.TIMEOUT_SECONDS} s). All on the same processors; the operator comes first, and the neighbours "
        "last. Leader busy: how long what is due waits for the leading process, at most. Late: how much later than "
        "due a check came to its endpoint, at most, those included that never came. "
        "Dead endpoint out: from the closed port to the slice that says so, "
        f"worst of {objects.DYING}. Peak memory: at most, all of the operator's processes together. Aims: no renewal "
        f"missed, p99.9 at most {_ms(LAG_SECONDS)}, p99 below {_ms(LATE_SECONDS)}, out within {NOTICED_SECONDS:.1f} "
        f"s, {PEAK_MIB:.0f} MiB, which is two thirds of the Deployment's limit."
    )
    return Table("Hostile neighbours", columns, rows, note)


def _cells(each: Measured) -> list[_Cell]:
    died = [seconds for seconds in each.died if seconds is not None]
    out = f"{max(died):.1f} s" if len(died) == len(each.died) else f"{len(each.died) - len(died)} never"
    peak = each.peak_kib / 1024
    return [
        _Cell("the operator ended", False, "it ended")
        if each.ended
        else _Cell(str(each.missed), each.missed == 0, "renewals"),
        _lag(each),
        _Cell(f"{_ms(each.late[1])}, {_ms(each.late[2])}", each.late[1] < LATE_SECONDS, "checks"),
        _Cell(out, len(died) == len(each.died) and max(died) <= NOTICED_SECONDS, "dead endpoint"),
        _Cell(f"{peak:.0f} MiB", peak <= PEAK_MIB, "memory"),
        _Cell(f"{each.cores:.2f}"),
    ]


def _lag(each: Measured) -> _Cell:
    if each.lag is None:
        return _Cell("does not say", False, "leader busy")
    most, longest = (each.lag.quantile(share) for share in (0.999, 1.0))
    return _Cell(f"{_ms(most)}, {_ms(longest)}", most <= LAG_SECONDS, "leader busy")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
