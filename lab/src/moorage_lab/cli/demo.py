"""`moorage demo`: sticky connections between two clusters, on this machine."""

import asyncio
import os

import click
from rich.console import Console

from moorage_lab import next_steps, outside, stage, story, topology
from moorage_lab.checks import has_ipv6, search_path
from moorage_lab.cli.ending import until_told
from moorage_lab.narrator import Narrator
from moorage_lab.state import free_name


@click.command()
@click.option("--keep", is_flag=True, help="Leave the clusters up at the end, until Ctrl-C.")
@click.option("--name", help="What to call the lab; default: demo, or, beside one that was kept, demo2 and so on.")
@click.option("--patience", default=0.0, hidden=True, help="Seconds that everything may take longer.")
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
    console.print(f"starting two clusters, as the lab {name} ...")
    async with outside.running(name, topology.plan(story.CLUSTERS, ipv6=has_ipv6())) as lab:
        scaled = await story.tell(lab, narrator, patience)
        if not keep:
            narrator.to_try("What to try next", next_steps.after_the_demo())
        else:
            commands = next_steps.beside_the_demo(lab.state, lab.directory, scaled or "backend1")
            narrator.to_try("What to try next, in another terminal; Ctrl-C ends this", commands)
            await asyncio.Event().wait()
