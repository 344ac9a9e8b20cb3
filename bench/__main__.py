"""`python -m bench`: measure, and print tables. Exit status 0 unless something could not be measured."""

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console

from bench import connections, large, operating, report, showing, syncing
from bench.agents import measuring as agents
from bench.agents.table import FULL_AGENTS, agents_table
from bench.hostile import kinds, measuring
from bench.hostile.table import FULL_SECONDS, hostile_table
from bench.moorings import measuring as mooring
from bench.moorings.table import FULL_PODS, moorings_table
from bench.namespaces import BenchError, isolated, output
from bench.proxies import measuring as proxies
from bench.proxies.table import FULL_SERVICES, proxies_tables

PART_SECONDS = 1800
"""Longest that one part may take."""
EXPECTED_MINUTES = {
    "connections": 6,
    "kubeproxy": 8,
    "sync": 2,
    "large": 1,
    "operator": 3,
    "moorings": 6,
    "agents": 3,
    "hostile": 15,
}
"""How long each part takes at its full size on 2 processors, about."""
SMALL_SYNC = 1_000
"""Services that an ordinary user's sync is measured with."""


@click.command()
@click.option("--quick", is_flag=True, help="Fewer services, fewer and shorter rounds: to see whether it works.")
@click.option("--markdown", is_flag=True, help="Print the tables as markdown as well.")
@click.option(
    "--only",
    type=click.Choice(list(EXPECTED_MINUTES)),
    help="One part.",
)
@click.option(
    "--kind",
    "chosen",
    multiple=True,
    type=click.Choice([each.name for each in kinds.KINDS]),
    help="Of hostile neighbours: this kind; may be given several times. Default: all.",
)
@click.option("--rounds", type=click.IntRange(1, 100), help="Rounds of connections; 15, or 2 if quick.")
@click.option("--seconds", type=click.IntRange(1, 60), help="Length of a round; 1.")
def main(
    quick: bool, markdown: bool, only: str | None, chosen: tuple[str, ...], rounds: int | None, seconds: int | None
) -> None:
    """Measure new connections per second, syncs of a node, and the operator, in network namespaces of its own."""
    services = SMALL_SYNC if quick else report.FULL_SIZE
    console = Console(width=None if sys.stdout.isatty() else 140)
    machine = f"{_machine()}. {datetime.now(UTC):%Y-%m-%d}."
    console.print(machine, highlight=False)
    if not quick:
        parts = (f"{part} {minutes}" for part, minutes in EXPECTED_MINUTES.items() if only in (None, part))
        print(f"Minutes that this takes, about: {', '.join(parts)}.", file=sys.stderr, flush=True)
    tables = []
    try:
        if only in (None, "connections"):
            moorings = SMALL_SYNC if quick else report.FULL_MOORINGS
            options = connections.Options(rounds or (2 if quick else 15), seconds or 1, services, moorings)
            tables += _connections(options)
        root = os.geteuid() == 0
        if only in (None, "kubeproxy") and root:
            tables += _kubeproxy(quick)
        if only in (None, "sync"):
            tables += [_sync(services, ordinary=not root)]
            if root:
                tables += [_sync(SMALL_SYNC, ordinary=True)]
        if only in (None, "large") and root:
            tables += [_large(quick)]
        if only not in ("connections", "sync") and not root:
            console.print("What needs a real API server, or a whole node, takes root: left out.")
        if only in (None, "operator") and root:
            tables += [_operator(quick)]
        if only in (None, "moorings") and root:
            tables += [_moorings(quick)]
        if only in (None, "agents") and root:
            tables += [_agents(quick)]
        if only in (None, "hostile") and root:
            tables += [_hostile(measuring.Options(10 if quick else FULL_SECONDS, list(chosen)))]
    except BenchError as error:
        sys.exit(f"moorage bench: {error}")
    for table in tables:
        showing.show(console, table)
    if markdown:
        print("\n".join([machine + "\n", *map(showing.markdown, tables)]))


def _connections(options: connections.Options) -> list[report.Table]:
    measured = msgspec.json.decode(
        _part("bench.connections", options, ordinary=os.geteuid() != 0),
        type=list[tuple[connections.Way, list[connections.Round]]],
    )
    return report.connection_tables(measured)


def _kubeproxy(quick: bool) -> list[report.Table]:
    small = proxies.Options(1, 1, [2, 100], [20, 100], 5, 20)
    full = proxies.Options(5, 1, [2, 100, 1_000], [100, 1_000, FULL_SERVICES], 50, 20)
    options = small if quick else full
    result = _with_api_server("bench.proxies.measuring", options)
    return proxies_tables(options, msgspec.json.decode(result, type=proxies.Result))


def _sync(services: int, ordinary: bool) -> report.Table:
    options = syncing.Options(services, endpoints=10, changes=50)
    results = msgspec.json.decode(_part("bench.syncing", options, ordinary), type=dict[str, syncing.Result])
    return report.sync_table(options, results, "as an ordinary user" if ordinary else "as root")


def _large(quick: bool) -> report.Table:
    options = large.Options(200, 3, 2_000, 100) if quick else large.Options(1_000, 20, report.FULL_SESSIONS, 1_000)
    measured = _part("bench.large", options, ordinary=False)
    return report.large_table(options, msgspec.json.decode(measured, type=large.Result))


def _operator(quick: bool) -> report.Table:
    small, full = operating.Options(100, 5, 10, 5, 3), operating.Options(report.OPERATOR_SIZE, 5, 60, 20, 20)
    options = small if quick else full
    result = _with_api_server("bench.operating", options)
    return report.operator_table(options, msgspec.json.decode(result, type=operating.Result))


def _moorings(quick: bool) -> report.Table:
    small, full = mooring.Options(500, 2, 20, 100, 30, 2), mooring.Options(FULL_PODS, 2, 100, 1000, 60, 5)
    options = small if quick else full
    result = _with_api_server("bench.moorings.measuring", options)
    return moorings_table(options, msgspec.json.decode(result, type=mooring.Result))


def _agents(quick: bool) -> report.Table:
    options = agents.Options(50, 10, 5, 5) if quick else agents.Options(FULL_AGENTS, 50, 60, 50)
    result = _with_api_server("bench.agents.measuring", options)
    return agents_table(options, msgspec.json.decode(result, type=agents.Result))


def _hostile(options: measuring.Options) -> report.Table:
    measured = _with_api_server("bench.hostile.measuring", options)
    return hostile_table(options, msgspec.json.decode(measured, type=list[measuring.Measured]))


def _with_api_server(module: str, options: object) -> bytes:
    # What it starts it ends itself, with everything of theirs: it only needs a network of its own.
    return _run(["unshare", "--net", sys.executable, "-m", module, msgspec.json.encode(options).decode()])


def _part(module: str, options: object, ordinary: bool) -> bytes:
    return _run(isolated(module, msgspec.json.encode(options).decode(), user_namespace=ordinary))


def _run(argv: list[str]) -> bytes:
    """What a part of the benchmark prints; its progress goes to standard error."""
    module = argv[-2]
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, timeout=PART_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{module}: took more than {PART_SECONDS} s") from None
    if done.returncode != 0:
        raise BenchError(f"{module} ended with status {done.returncode}; the lines above say why")
    return done.stdout


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.partition(": ")[2] for line in cpuinfo.splitlines() if line.startswith("model name")), "")
    cores = f"{os.cpu_count()} processors{f' ({model})' if model else ''}"
    nft = output(["nft", "--version"]).split()[1].removeprefix("v")
    return f"{cores}, {memory:.0f} GiB, Linux {platform.release()}, nft {nft}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
