"""`moorage sessions`: who is pinned to what on this node."""

import asyncio

import click

from moorage.api.core_v1 import Service
from moorage.cli.columns import columns_of
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.dataplane.nft import KernelNft
from moorage.dataplane.services import Scope, carried
from moorage.dataplane.sessions import Session, read


@click.command()
@click.option(
    "--kubeconfig",
    "path",
    type=click.Path(),
    envvar="KUBECONFIG",
    show_envvar=True,
    help="Name the Services, by asking this API.",
)
def command(path: str | None) -> None:
    """List the learned sessions of this node: client, service, endpoint, seconds left."""
    found, names = asyncio.run(_read(path))
    rows = [["CLIENT", "SERVICE", "ADDRESS", "ENDPOINT", "SECONDS LEFT"]]
    for each in sorted(found):
        key, target = each.key, each.target
        address = f"{_host(key.address)}:{key.port}/{key.protocol}"
        endpoint = f"{_host(target.address)}:{target.port}"
        rows.append([each.client, names.get(key.address, "-"), address, endpoint, str(each.left)])
    click.echo(columns_of(rows))


async def _read(path: str | None) -> tuple[list[Session], dict[str, str]]:
    names: dict[str, str] = {}
    if path:
        async with Client(kubeconfig.load(path)) as client:
            for service in (await client.list(Service)).items:
                for port in carried(service, (), Scope("", labelled_only=False)).ports:
                    names[port.key.address] = port.service
    return await read(KernelNft()), names


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
