"""The table "agents". Pure."""

from collections.abc import Callable
from statistics import median

from bench.agents import things
from bench.agents.measuring import Change, Measured, Options, Result
from bench.report import Row, Table, in_mib, in_ms

FULL_AGENTS = 1_000


def agents_table(options: Options, result: Result) -> Table:
    """What one agent and many cost."""
    title = f"Node agents: one, and {options.agents:,} others that are simulated"
    note = (
        f"{options.services:,} Services of {things.ENDPOINTS} endpoints, and on each node a pod of a namespace with "
        "moorings. API server, etcd and the one agent are real. The others have an agent's watches, no kernel, and "
        "the same processors. The request itself is part of a change."
    )
    columns = ("", "one agent", f"{options.agents + 1:,} agents")
    return Table(title, columns, [*_rest(result), *_changes(result)], note)


def _rest(result: Result) -> list[Row]:
    return [
        _row("API server with etcd at rest: of a processor", result, lambda each: _in_percent(each.server_core)),
        _row("  most memory", result, lambda each: in_mib(each.server_kib)),
        _row("a real agent at rest: of a processor", result, lambda each: _in_percent(each.agent_core)),
        _row("  most memory", result, lambda each: in_mib(each.agent_kib)),
    ]


def _changes(result: Result) -> list[Row]:
    return [
        *_change("an EndpointSlice changes", result, lambda each: each.slices),
        *_change("a client moves", result, lambda each: each.moorings),
    ]


def _change(what: str, result: Result, of: Callable[[Measured], Change]) -> list[Row]:
    told = of(result.together).told
    return [
        _row(f"{what}: API server's processor time", result, lambda each: in_ms(of(each).server_cpu)),
        _row("  the real agent's", result, lambda each: in_ms(of(each).agent_cpu)),
        Row(("  until the last agent has it: median, worst", "", f"{in_ms(median(told))}, {in_ms(max(told))}")),
    ]


def _row(what: str, result: Result, cell: Callable[[Measured], str]) -> Row:
    return Row((what, cell(result.alone), cell(result.together)))


def _in_percent(share: float) -> str:
    return f"{100 * share:.1f} %"
