"""`moorage operator`: finds, checks and keeps the endpoints of ExternalServices."""

import asyncio
from pathlib import Path

import click

from moorage import log
from moorage.cluster import kubeconfig
from moorage.operator import config as configuration
from moorage.operator.main import Options, run
from moorage.operator.startup_taint import AGENTS
from moorage.serving.pages import parse_listen

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option("--kubeconfig", "path", type=_FILE, help="How to reach the API; default: the pod's own account.")
@click.option(
    "--config", "config", type=_FILE, help="Configuration file (YAML). Without it, everything has its default."
)
@click.option(
    "--namespace", envvar="POD_NAMESPACE", help="Namespace of the Lease; default: the pod's, or the kubeconfig's."
)
@click.option("--identity", envvar="POD_NAME", help="This process's name in the Lease; a unique suffix is added.")
@click.option("--lease", default="moorage-operator", show_default=True, help="Name of the Lease.")
@click.option(
    "--leader-election/--no-leader-election",
    default=True,
    show_default=True,
    help="Wait for the Lease. Without it this must be the only one.",
)
@click.option(
    "--listen",
    default=":8080",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to answer /healthz, /readyz and /metrics.",
)
@click.option(
    "--startup-taint",
    metavar="KEY",
    help="Take the taints of this key from nodes whose agent is ready; default: leave nodes alone.",
)
@click.option("--agents", default=AGENTS, show_default=True, help="Namespace of the node agents.")
@click.pass_context
def command(
    ctx: click.Context,
    path: Path | None,
    config: Path | None,
    namespace: str | None,
    identity: str | None,
    lease: str,
    leader_election: bool,
    listen: str,
    startup_taint: str | None,
    agents: str,
) -> None:
    """Keep the Services of ExternalServices right, until told to stop. They stay as they are without it."""
    settings = configuration.load(config)
    outer = ctx.parent.params if ctx.parent else {}
    if config is not None:
        log.configure("debug" if outer.get("verbose") else settings.log_level, settings.log_format == "json")
    options = Options(
        configuration=settings,
        namespace=namespace,
        identity=identity,
        lease=lease if leader_election else None,
        listen=parse_listen(listen),
        startup_taint=startup_taint,
        agents=agents,
    )
    api = kubeconfig.load(path) if path else kubeconfig.in_cluster()
    asyncio.run(run(api, options))
