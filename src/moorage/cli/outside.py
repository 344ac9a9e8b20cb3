"""`moorage outside`: a child process of the operator, for what speaks to servers that tenants choose."""

import asyncio
import socket

import click

from moorage import log
from moorage.outside.child import PARTS, Part, run


@click.command()
@click.argument("part", type=click.Choice(PARTS))
@click.argument("channel", type=int)
@click.option("--log-level", type=click.Choice(log.LEVELS), default="info")
@click.option("--log-json", is_flag=True)
def command(part: Part, channel: int, log_level: str, log_json: bool) -> None:
    """Do PART of the operator's work. CHANNEL is the file descriptor of the socket to the operator."""
    log.configure(log_level, log_json)
    asyncio.run(run(part, socket.socket(fileno=channel)))
