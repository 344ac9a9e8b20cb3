"""`moorage demo`: sticky connections between two clusters, on this machine."""

import asyncio
import os

import click
from rich.console import Console

from moorage.cli import program
from moorage_lab import outside, stage, story, topology
from moorage_lab.checks import has_ipv6, search_path
from moorage_lab.cli.ending import until_told
from moorage_lab.narrator import Narrator
from moorage_lab.state import free_name, kubeconfig


@click.command()
@click.option("--keep", is_flag=True, help="Leave the clusters up at the end, until Ctrl-C.")
@click.option("--name", help="What to call the lab; default: demo, or, beside one that was kept, demo2 and so on.")
@click.option("--patience", default=0.0, hidden=True, help="Seconds by which everything may take longer.")
@click.pass_context
def command(ctx: click.Context, keep: bool, name: str | None, patience: float) -> None:
    """See sticky connections between two clusters, as network namespaces on this machine.

    Exit status 0 only if every check holds.
    """
    os.environ["PATH"] = search_path(os.environ.get("PATH", ""))
    console = Console(highlight=False)
    narrator = Narrator(console)
    until_told(_run(name or free_name("demo"), keep, patience, console, narrator))
    ctx.exit(0 if narrator.holds else 1)


async def _run(name: str, keep: bool, patience: float, console: Console, narrator: Narrator) -> None:
    stage.files()
    console.print("starting two clusters ...")
    async with outside.running(name, topology.plan(story.CLUSTERS, ipv6=has_ipv6())) as lab:
        scaled = await story.tell(lab, narrator, patience)
        if keep:
            _invite(console, lab, scaled or "backend1")
            await asyncio.Event().wait()


def _invite(console: Console, lab: outside.Lab, scaled: str) -> None:
    """Say how to play with what was left up."""
    name = f" --name {lab.state.name}"
    lines = [
        "",
        "The clusters stay up until Ctrl-C. From another terminal:",
        *(
            f"  curl http://localhost:{one.port}   # {one.service} of cluster {one.cluster}"
            for one in lab.state.relays
        ),
        *(f"  KUBECONFIG={kubeconfig(lab.directory, one)} kubectl get pods -A" for one in lab.state.clusters),
        f"  {program.name()} lab get{name} --cluster b -n frontend xsvc -o wide",
        f"  {program.name()} lab scale{name} --cluster a -n backend deployment/{scaled} --replicas 1",
        f"  {program.name()} lab exec{name} deployment/frontend -- bash",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
