"""`moorage node`: the node agent."""

import asyncio

import click

from moorage.api.contract import CARRIED_SELECTOR
from moorage.cluster import kubeconfig
from moorage.dataplane.services import Scope
from moorage.node import main
from moorage.serving.pages import parse_listen


@click.command()
@click.option("--kubeconfig", "path", type=click.Path(), help="How to reach the API; default: the pod's own account.")
@click.option("--node", envvar="NODE_NAME", help="This node's name.")
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
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Where to answer /healthz, /readyz and /metrics; default: nowhere.",
)
@click.option(
    "--remove", is_flag=True, help="Take what agents have programmed from this node's kernel, and nothing else."
)
def command(
    path: str | None, node: str | None, services: str, addresses: str, listen: str | None, remove: bool
) -> None:
    """Program this node's kernel for its Services, until told to stop. The kernel keeps what was programmed."""
    if remove:
        asyncio.run(main.remove())
        return
    if not node:
        raise click.UsageError("Missing option '--node'.")
    scope = Scope(node, services == "labelled", "load-balancer" if addresses == "load-balancer" else "cluster")
    options = main.Options(scope, parse_listen(listen) if listen else None)
    asyncio.run(main.run(kubeconfig.load(path) if path else kubeconfig.in_cluster(), options))
