"""`moorage lab kill`: sends a signal to a program of a lab, to see what happens without it."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import click

from moorage.errors import MoorageError
from moorage_lab import programs
from moorage_lab.network import RUN, STATE
from moorage_lab.programs import Files
from moorage_lab.state import LabState, find
from moorage_lab.topology import ClusterPlan

MAX_NAME_BYTES = 15
"""Of a process's name (proc_pid_comm(5))."""
SIGNALS = ("KILL", "STOP", "CONT", "TERM")


@click.command("kill")
@click.option("--name", "lab", help="The lab; default: the only one that runs.")
@click.option("--cluster", help="The cluster; may be left out where there is only one.")
@click.option("-s", "--signal", "signal_", type=click.Choice(SIGNALS), default="KILL", show_default=True)
@click.argument("names", nargs=-1, required=True, metavar="operator|agent-NODE|control...")
def command(lab: str | None, cluster: str | None, signal_: str, names: tuple[str, ...]) -> None:
    """Kill programs of a cluster, or stop and continue them.

    The lab starts what has ended again after 0.2 s or more, as kubelets do. STOP keeps a program from running until
    CONT. What there is: operator, agent-NODE for each node, agent-gateway (the load balancer), control (controllers
    and kubelets, with all pods) and dns.
    """
    state, directory = find(lab)
    plan = state.chosen(cluster)
    for name, pid in [(name, process(state, directory, plan, name)) for name in names]:
        os.kill(pid, getattr(signal, f"SIG{signal_}"))
        click.echo(f"{name}: SIG{signal_}")


def process(state: LabState, directory: Path, cluster: ClusterPlan, name: str) -> int:
    """The process that runs this program: the child of the lab's first process that has its name and writes its log.

    The name alone may be cut short, and the log alone may be that of a child that has lost its parent. `directory`
    is the lab's. Raises MoorageError if there is no such program, or if it does not run just now.
    """
    there = [program.name for program in programs.others(cluster, Files(RUN, STATE, cluster.name))]
    if name not in there:
        raise MoorageError(f"cluster {cluster.name}: has no program {name!r}; it has: {', '.join(there)}")
    log = directory / "logs" / cluster.name / f"{name}.log"
    for child in Path(f"/proc/{state.init_pid}/task/{state.init_pid}/children").read_text().split():
        with suppress(OSError):  # one that has ended meanwhile
            comm = Path(f"/proc/{child}/comm").read_text().strip()
            if comm == f"{cluster.name}/{name}"[:MAX_NAME_BYTES] and log.samefile(f"/proc/{child}/fd/1"):
                return int(child)
    raise MoorageError(f"cluster {cluster.name}: {name} does not run; see its log: {log}")
