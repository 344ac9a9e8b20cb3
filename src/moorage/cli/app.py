"""`moorage app backend`, `moorage app frontend` and `moorage app worker`: the demo's programs."""

import asyncio
import os
from collections.abc import Coroutine

import click

from moorage.apps import backend as backend_program
from moorage.apps import frontend as frontend_program
from moorage.apps import worker as worker_program
from moorage.apps.server import SettingError
from moorage.errors import MoorageError


@click.group()
def command() -> None:
    """Run one of the demo's programs."""


@command.command()
def backend() -> None:
    """Answer every GET with `backend[<hostname>]`.

    PORT in the environment: where to listen, 8080 by default.
    """
    _run("backend", backend_program.run(os.environ))


@command.command()
def frontend() -> None:
    """Ask the backend again for every GET, and answer with both names.

    In the environment: BACKEND_HOST and BACKEND_PORT (8080 by default), the backend's; PORT: where to listen, 8080
    by default.
    """
    _run("frontend", frontend_program.run(os.environ))


@command.command()
def worker() -> None:
    """Keep one connection to the backend open, ask over it again and again, and print what becomes of it.

    BACKEND_HOST and BACKEND_PORT (8080 by default) in the environment: the backend's.
    """
    _run("worker", worker_program.run(os.environ))


def _run(name: str, program: Coroutine[None, None, None]) -> None:
    try:
        asyncio.run(program)
    except SettingError as error:
        raise MoorageError(f"{name}: {error}") from None
