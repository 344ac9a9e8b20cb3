"""`moorage node`: the node agent."""

import asyncio
import signal

import click

from moorage.api.contract import CARRIED_SELECTOR
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.dataplane.capabilities import probe
from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.nft import KernelNft
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synchronizer
from moorage.log import get_logger
from moorage.node.agent import Agent

log = get_logger("moorage.node")


@click.command()
@click.option("--kubeconfig", "path", type=click.Path(), help="How to reach the API; default: the pod's own account.")
@click.option("--node", required=True, envvar="NODE_NAME", help="This node's name.")
@click.option(
    "--services",
    type=click.Choice(["labelled", "all"]),
    default="labelled",
    show_default=True,
    help=f"Carry the Services labelled {CARRIED_SELECTOR}, or all (no kube-proxy).",
)
@click.option(
    "--addresses",
    type=click.Choice(["cluster", "load-balancer"]),
    default="cluster",
    show_default=True,
    help="Carry the Services' cluster IPs, or their load balancers' addresses.",
)
def command(path: str | None, node: str, services: str, addresses: str) -> None:
    """Program this node's kernel for its Services, until told to stop. The kernel keeps what was programmed."""
    scope = Scope(node, services == "labelled", "load-balancer" if addresses == "load-balancer" else "cluster")
    config = kubeconfig.load(path) if path else kubeconfig.in_cluster()
    asyncio.run(_run(config, scope))


async def _run(config: kubeconfig.Config, scope: Scope) -> None:
    nft = KernelNft()
    capabilities = await probe(nft)
    for warning in capabilities.warnings:
        log.warning(warning)
    async with Client(config) as client:
        agent = Agent(client, Synchronizer(nft, KernelConntrack(), capabilities), scope)
        running = asyncio.ensure_future(agent.run())
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            log.info("stopping; the kernel keeps what was programmed")
