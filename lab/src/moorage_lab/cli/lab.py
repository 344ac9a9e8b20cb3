"""`moorage lab`: clusters as network namespaces on this machine."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import click

from moorage.api import manifest
from moorage.cli.columns import columns_of
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab import enter, hints, manifests, topology, verbs
from moorage_lab.checks import has_ipv6, search_path
from moorage_lab.cli import dns, kill, starting
from moorage_lab.cli.ending import until_told
from moorage_lab.state import DEFAULT_NAME, LabState, find, inside_kubeconfig, labs
from moorage_lab.state import kubeconfig as kubeconfig_path

_STOP_SECONDS = 15.0

_name = click.option("--name", help="The lab; default: the only one that runs.")
_cluster = click.option("--cluster", help="The cluster; may be left out where there is no doubt.")
_namespace = click.option("-n", "--namespace", help="Default: the namespace `default`.")
_any_namespace = click.option("-n", "--namespace", help="Default: whichever has it.")
_file = click.option("-f", "--filename", "files", multiple=True, help="Manifests: a file, a directory, or -.")


@click.group()
def command() -> None:
    """Run clusters as network namespaces on this machine, without root, and work with them."""
    os.environ["PATH"] = search_path(os.environ.get("PATH", ""))


command.add_command(dns.command)
command.add_command(kill.command)

# --- Labs --------------------------------------------------------------------------------------------------------


@command.command()
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="What to call the lab.")
@click.option(
    "--cluster",
    "clusters",
    multiple=True,
    metavar="NAME[=NODES]",
    help=f"A cluster and how many nodes it has; default: {' and '.join(manifests.DEFAULT_CLUSTERS)}.",
)
@click.option(
    "-f",
    "--filename",
    "files",
    multiple=True,
    metavar="[CLUSTER=]FILE",
    help="Manifests; default: the first cluster's.",
)
@click.argument("more", nargs=-1, metavar="[[CLUSTER=]FILE]...")
def run(name: str, clusters: tuple[str, ...], files: tuple[str, ...], more: tuple[str, ...]) -> None:
    """Start clusters, apply manifests to them, print how to reach them, and stay until Ctrl-C.

    \b
    moorage lab run -f a=deploy/demo/k8s-backend.yml -f b=deploy/demo/k8s-frontend.yml
    """
    plan = topology.plan(manifests.parse_clusters(clusters), ipv6=has_ipv6())
    loaded = manifests.load(manifests.parse_files((*files, *more), plan))
    until_told(starting.stay_up(name, plan, loaded))


@command.command("list")
def list_() -> None:
    """List the labs that run."""
    rows = [["NAME", "PID", "CLUSTERS", "REACHED AT"]]
    for state, _ in labs():
        relays = ", ".join(f"{relay.service} http://127.0.0.1:{relay.port}" for relay in state.relays)
        rows.append([state.name, str(state.pid), ",".join(state.clusters), relays])
    click.echo(columns_of(rows) if len(rows) > 1 else "no lab is running")


@command.command()
@_name
@click.argument("also_name", metavar="[NAME]", required=False)
def stop(name: str | None, also_name: str | None) -> None:
    """End a lab, by default the only one that runs."""
    if name and also_name and name != also_name:
        raise click.UsageError(f"one lab at a time: --name {name}, or {also_name}")
    state, path = find(name or also_name)
    os.kill(state.pid, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while any(running.pid == state.pid for running, _ in labs()):
        if time.monotonic() > deadline:
            raise MoorageError(f"lab {state.name}: process {state.pid} does not end; its files are in {path}")
        time.sleep(0.05)
    click.echo(f"lab {state.name} ended")


# --- Objects -----------------------------------------------------------------------------------------------------


@command.command()
@_name
@_cluster
@_namespace
@_file
@click.option("--force-conflicts", is_flag=True, help="Take over fields that somebody else has set.")
def apply(
    name: str | None, cluster: str | None, namespace: str | None, files: tuple[str, ...], force_conflicts: bool
) -> None:
    """Apply manifests, as kubectl apply --server-side does."""
    if not files:
        raise click.UsageError("say which manifests with -f FILE")
    loaded = _load(files, namespace)

    _with_client(name, cluster, lambda client: starting.apply(client, loaded, force=force_conflicts))


@command.command()
@_name
@_cluster
@_namespace
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of every namespace.")
@click.option("-l", "--selector", help="Labels, such as app=backend.")
@click.option("-o", "--output", type=click.Choice(["wide", "yaml", "json", "name"]), default=None)
@click.argument("kind")
@click.argument("object_name", metavar="[NAME]", required=False)
def get(
    name: str | None,
    cluster: str | None,
    namespace: str | None,
    all_namespaces: bool,
    selector: str | None,
    output: str | None,
    kind: str,
    object_name: str | None,
) -> None:
    """Print objects, in columns or as YAML or JSON. KIND is what kubectl takes: pods, svc, xsvc, deployment/NAME."""
    resource, _, after = kind.partition("/")
    resolved = verbs.resolve(resource)

    async def do(client: Client) -> None:
        click.echo(
            await verbs.get(
                client,
                resolved,
                object_name or after or None,
                namespace=namespace,
                all_namespaces=all_namespaces,
                label_selector=selector,
                output=cast("verbs.Output", output or ""),
            )
        )

    _with_client(name, cluster, do)


@command.command()
@_name
@_cluster
@_namespace
@_file
@click.argument("objects", nargs=-1, metavar="[KIND NAME... | KIND/NAME...]")
def delete(
    name: str | None, cluster: str | None, namespace: str | None, files: tuple[str, ...], objects: tuple[str, ...]
) -> None:
    """Delete objects."""
    loaded = _load(files, namespace)
    named = [(verbs.resolve(kind), object_name) for kind, object_name in _named(objects)]
    if bool(loaded) == bool(named):
        raise click.UsageError("say what to delete: KIND NAME, or -f FILE")

    async def do(client: Client) -> None:
        if loaded:
            click.echo(await verbs.delete_manifests(client, loaded))
        for kind, object_name in named:
            click.echo(await verbs.delete(client, kind, object_name, namespace=namespace))

    _with_client(name, cluster, do)


@command.command()
@_name
@_cluster
@_namespace
@click.option("--replicas", type=click.IntRange(min=0), required=True)
@click.argument("objects", nargs=-1, required=True, metavar="KIND NAME | KIND/NAME")
def scale(
    name: str | None, cluster: str | None, namespace: str | None, replicas: int, objects: tuple[str, ...]
) -> None:
    """Set how many pods a Deployment or StatefulSet has."""
    named = [(verbs.resolve(kind), object_name) for kind, object_name in _named(objects)]

    async def do(client: Client) -> None:
        for kind, object_name in named:
            click.echo(await verbs.scale(client, kind, object_name, replicas, namespace=namespace))

    _with_client(name, cluster, do)


@command.command()
@_name
@_cluster
@_namespace
@click.option("-p", "--patch", "text", required=True, metavar="JSON", help='Such as {"spec": {"suspend": true}}.')
@click.option(
    "--type", "type_", type=click.Choice(["merge", "json", "strategic"]), default="merge", show_default=True
)
@click.argument("objects", nargs=-1, required=True, metavar="KIND NAME | KIND/NAME")
def patch(
    name: str | None, cluster: str | None, namespace: str | None, text: str, type_: str, objects: tuple[str, ...]
) -> None:
    """Change fields of an object, as kubectl patch does."""
    named = [(verbs.resolve(kind), object_name) for kind, object_name in _named(objects)]
    body = verbs.parse(text)

    async def do(client: Client) -> None:
        for kind, object_name in named:
            how = cast("verbs.PatchType", type_)
            click.echo(await verbs.patch(client, kind, object_name, body, type_=how, namespace=namespace))

    _with_client(name, cluster, do)


@command.command()
@_name
@_cluster
@_namespace
@click.argument("objects", nargs=-1, required=True, metavar="KIND NAME | KIND/NAME")
def edit(name: str | None, cluster: str | None, namespace: str | None, objects: tuple[str, ...]) -> None:
    """Change an object in your editor, by the variables VISUAL and EDITOR."""
    named = [(verbs.resolve(kind), object_name) for kind, object_name in _named(objects)]

    def editor(text: str) -> str | None:
        return click.edit(text, extension=".yaml")

    async def do(client: Client) -> None:
        for kind, object_name in named:
            click.echo(await verbs.edit(client, kind, object_name, editor, namespace=namespace))

    _with_client(name, cluster, do)


@command.command()
@_name
@_cluster
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def cordon(name: str | None, cluster: str | None, nodes: tuple[str, ...]) -> None:
    """Have nodes take no more pods. Those that they have stay, until somebody deletes them."""
    _cordon(name, cluster, nodes, on=True)


@command.command()
@_name
@_cluster
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
def uncordon(name: str | None, cluster: str | None, nodes: tuple[str, ...]) -> None:
    """Have nodes take pods again."""
    _cordon(name, cluster, nodes, on=False)


def _cordon(name: str | None, cluster: str | None, nodes: tuple[str, ...], *, on: bool) -> None:
    async def do(client: Client) -> None:
        for node in nodes:
            click.echo(await verbs.cordon(client, node.removeprefix("node/"), on=on))

    _with_client(name, cluster, do)


# --- Inside ------------------------------------------------------------------------------------------------------


@command.command("exec", context_settings={"ignore_unknown_options": True})
@_name
@_cluster
@_any_namespace
@click.argument("target", metavar="POD|deploy/NAME|sts/NAME|NODE|gateway|internet")
@click.argument("argv", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def exec_(name: str | None, cluster: str | None, namespace: str | None, target: str, argv: tuple[str, ...]) -> None:
    """Run a command in a pod, on a node or at a gateway, with its network and host name."""
    state, path = find(name)
    prefix, environment = enter.on_node(state, cluster, target), dict(os.environ)
    if prefix is None:
        place = _find_pod(state, path, cluster, namespace, target)
        prefix, values = asyncio.run(enter.in_pod(state, place))
        environment = {**values, "TERM": os.environ.get("TERM", "dumb")}
    os.execvpe(prefix[0], [*prefix, *argv], environment)


@command.command()
@_name
@_cluster
@_any_namespace
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option("-c", "--container", help="Default: the first.")
@click.argument("target", metavar="POD|deploy/NAME|sts/NAME")
def logs(
    name: str | None, cluster: str | None, namespace: str | None, follow: bool, container: str | None, target: str
) -> None:
    """Print what a pod has printed."""
    state, path = find(name)
    place = _find_pod(state, path, cluster, namespace, target)
    argv = [*enter.inside(state), "tail", "-n", "+1", *(["-F"] if follow else []), place.log(container)]
    os.execvp(argv[0], argv)


@command.command("kubeconfig")
@_name
@_cluster
@_namespace
@click.option("--secret", metavar="NAME", help="As a Secret by which other clusters of the lab reach this one.")
def kubeconfig_(name: str | None, cluster: str | None, namespace: str | None, secret: str | None) -> None:
    """Print a cluster's kubeconfig.

    \b
    moorage lab kubeconfig --cluster a --secret cluster-a -n frontend | moorage lab apply --cluster b -f -
    """
    state, path = find(name)
    file = (inside_kubeconfig if secret else kubeconfig_path)(path, state.chosen(cluster).name)
    text = file.read_text()
    click.echo((manifests.secret(secret, namespace or "default", text) if secret else text).rstrip())


# --- What they share ---------------------------------------------------------------------------------------------


def _with_client(name: str | None, cluster: str | None, do: Callable[[Client], Awaitable[None]]) -> None:
    state, path = find(name)
    chosen = state.chosen(cluster).name

    async def main() -> None:
        async with Client(_config(state, path, chosen), on_warning=starting.print_warning) as client:
            await do(client)

    asyncio.run(main())


def _load(files: tuple[str, ...], namespace: str | None) -> list[dict[str, Any]]:
    """The objects of these files. Raises MoorageError for files without any."""
    loaded = [one.object for one in manifest.load(files, namespace=namespace or "default")]
    if files and not loaded:
        raise MoorageError(f"{', '.join(files)}: holds no object; write one with apiVersion, kind and metadata")
    return loaded


def _config(state: LabState, path: Path, cluster: str) -> kubeconfig.Config:
    return kubeconfig.load(kubeconfig_path(path, cluster))


def _find_pod(state: LabState, path: Path, cluster: str | None, namespace: str | None, target: str) -> enter.PodPlace:
    async def main() -> enter.PodPlace | None:
        async with AsyncExitStack() as stack:
            clients = []
            for plan in state.plan.clusters:
                if cluster in (None, plan.name):
                    client = await stack.enter_async_context(Client(_config(state, path, plan.name)))
                    clients.append((plan, client))
            return await enter.find_pod(clients, target, namespace)

    place = asyncio.run(main())
    if place is None:
        raise MoorageError(
            f"{target}: no such pod or node; see: {hints.get(state.name, cluster or state.clusters[0], '-A pods')}"
        )
    return place


def _named(objects: tuple[str, ...]) -> list[tuple[str, str]]:
    """(kind, name) of `KIND/NAME...` or of `KIND NAME...`."""
    if all("/" in word for word in objects):
        return [(kind, name) for kind, _, name in (word.partition("/") for word in objects)]
    if len(objects) < 2 or any("/" in word for word in objects):
        raise click.UsageError("name objects as KIND NAME... or KIND/NAME...")
    return [(objects[0], word) for word in objects[1:]]
