"""`moorage app backend` and `moorage app frontend`: the demo's two programs."""

import asyncio
import importlib
import os

import click

from moorage.errors import MoorageError


@click.group()
def command() -> None:
    """Run one of the demo's programs."""


@command.command()
def backend() -> None:
    """Answer every GET with `backend[<hostname>]`.

    PORT in the environment: where to listen, 8080 by default.
    """
    _run("backend")


@command.command()
def frontend() -> None:
    """Ask the backend anew for every GET and answer with both names.

    In the environment: BACKEND_HOST and BACKEND_PORT, the backend's; PORT: where to listen, 8080 by default.
    """
    _run("frontend")


def _run(program: str) -> None:
    server = importlib.import_module("moorage.apps.server")
    module = importlib.import_module(f"moorage.apps.{program}")
    try:
        asyncio.run(module.run(os.environ))
    except server.SettingError as error:
        raise MoorageError(f"{program}: {error}") from None
