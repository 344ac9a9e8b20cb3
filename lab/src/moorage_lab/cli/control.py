"""`moorage lab-control`: what a lab cluster has of controllers, cloud and kubelets. Started by the lab."""

import asyncio
from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--kubeconfig", type=_FILE, required=True, help="How to reach the cluster's API server.")
@click.option("--cluster", required=True, help="The cluster's name in the topology.")
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), required=True, help="For its files.")
@click.option("--topology", type=_FILE, required=True, help="The cluster's plan, as JSON.")
def command(kubeconfig: Path, cluster: str, state: Path, topology: Path) -> None:
    """Play the controllers, the cloud's load balancer, DNS records and kubelets of one lab cluster."""
    from moorage_lab.control.main import run

    asyncio.run(run(kubeconfig, cluster, state.resolve(), topology))
