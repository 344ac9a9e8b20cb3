"""`moorage lab-apiserver`: a lab cluster's small Kubernetes API server. Started by the lab."""

import asyncio
from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_PLACE = click.Path(path_type=Path)


@click.command()
@click.option("--address", "addresses", multiple=True, help="Listen on this address; may be repeated.")
@click.option("--port", default=0, show_default=True, help="Port of every --address; 0: one that is free.")
@click.option("--socket-fd", "sockets", multiple=True, type=int, help="An inherited listening TCP socket.")
@click.option("--token", envvar="MOORAGE_LAB_TOKEN", help="Bearer token; without one, --directory makes one.")
@click.option("--tls-cert", type=_FILE, help="Server certificate (PEM), with --tls-key.")
@click.option("--tls-key", type=_FILE, help="Its key (PEM).")
@click.option("--tls-ca", type=_FILE, help="CA certificate (PEM) for the kubeconfigs.")
@click.option("--directory", type=_PLACE, help="Write ca.crt, tls.crt, tls.key and kubeconfig here; use them.")
@click.option("--san", "names", multiple=True, help="One more address or name of the certificate in --directory.")
@click.option("--plain", is_flag=True, help="HTTP in place of HTTPS.")
@click.option(
    "--kubeconfig",
    "kubeconfigs",
    multiple=True,
    nargs=2,
    metavar="FILE URL",
    help="Write an administrator's kubeconfig to FILE for the server at URL; may be repeated.",
)
@click.option("--cluster", default="lab", show_default=True, help="The cluster's name in kubeconfigs.")
@click.option("--service-range", "ranges", multiple=True, help="Range of ClusterIPs; one, or one of each family.")
def command(
    addresses: tuple[str, ...],
    port: int,
    sockets: tuple[int, ...],
    token: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_ca: Path | None,
    directory: Path | None,
    names: tuple[str, ...],
    plain: bool,
    kubeconfigs: tuple[tuple[str, str], ...],
    cluster: str,
    ranges: tuple[str, ...],
) -> None:
    """Serve the Kubernetes API of one lab cluster from memory, until SIGTERM.

    Kubeconfigs are written once it listens, each in one step.
    """
    from moorage_lab.apiserver import main
    from moorage_lab.apiserver.server import SERVICE_RANGES

    if not addresses and not sockets:
        addresses = ("127.0.0.1",)
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("give both --tls-cert and --tls-key, or neither.")
    if not plain and tls_cert is None and directory is None:
        raise click.UsageError("give --directory, or --tls-cert and --tls-key, or --plain.")
    plan = main.Plan(
        addresses=addresses,
        port=port,
        sockets=sockets,
        token=token,
        certificate=tls_cert,
        key=tls_key,
        ca=tls_ca,
        directory=directory,
        names=names,
        plain=plain,
        kubeconfigs=tuple((Path(file), url) for file, url in kubeconfigs),
        cluster=cluster,
        ranges=ranges or SERVICE_RANGES,
    )
    asyncio.run(main.run(plan))
