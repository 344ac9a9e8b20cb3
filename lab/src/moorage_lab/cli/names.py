"""`moorage lab-names`: the name server of a lab's internet. Started by the lab."""

import asyncio
from pathlib import Path

import click


@click.command()
@click.option("--address", "addresses", multiple=True, required=True, help="Listen on this address; may be repeated.")
@click.option("--zone", type=click.Path(dir_okay=False, path_type=Path), required=True, help="File of the records.")
def command(addresses: tuple[str, ...], zone: Path) -> None:
    """Answer for the names that people add with `moorage lab dns`, until SIGTERM."""
    from moorage_lab.nameserver import serve

    asyncio.run(serve(addresses, zone))
