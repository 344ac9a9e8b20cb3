"""What `moorage lab run` does. It prints each step when it begins or ends."""

import asyncio
from collections.abc import Awaitable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import click

from moorage.api import manifest
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab import hints, manifests, outside, topology, verbs, waiting
from moorage_lab.channel import Relay
from moorage_lab.state import kubeconfig

Loaded = dict[str, list[manifest.Manifest]]
"""Cluster -> its objects."""


async def stay_up(name: str, plan: topology.LabPlan, loaded: Loaded) -> None:
    """Start the lab, apply the loaded manifests, and wait until cancelled."""
    click.echo(f"lab {name}: starting {', '.join(map(_described, plan.clusters))}")
    async with outside.running(name, plan) as lab:
        async with AsyncExitStack() as stack:
            clients = {
                name: await stack.enter_async_context(lab.client(name, print_warning)) for name in lab.state.clusters
            }
            for one in clients:
                click.echo(f"cluster {one}: export KUBECONFIG={kubeconfig(lab.directory, one)}")
            nodes = {one.name: len(one.nodes) for one in plan.clusters}
            click.echo(f"waiting for {_counted(sum(nodes.values()), 'node')}")
            await asyncio.gather(*(waiting.nodes(clients[one], count) for one, count in nodes.items()))
            for cluster, found in loaded.items():
                if found:
                    click.echo(f"cluster {cluster}: applying {_counted(len(found), 'object')}")
                    await _or_told(apply(clients[cluster], [one.object for one in found]))
            await _all(_deployments(lab, clients, loaded), "Deployment")
            await _all(_stateful_sets(lab, clients, loaded), "StatefulSet")
            await _all(_entrances(lab, loaded), "load balancer")
        click.echo(f"lab {name} is up; Ctrl-C ends it")
        await _show_relays(lab)


async def apply(client: Client, loaded: list[dict[str, Any]], *, force: bool = False) -> None:
    """Apply the objects and print what was done. Raises MoorageError that names those that were refused."""
    try:
        click.echo(await verbs.apply(client, loaded, force=force))
    except verbs.PartlyDoneError as error:
        if error.done:
            click.echo(error.done)
        if error.conflict:
            raise MoorageError(f"{error}; take the fields over with --force-conflicts") from None
        raise


def print_warning(text: str) -> None:
    """Print a `Warning` of an API server, as kubectl does."""
    click.echo(f"Warning: {text}", err=True)


def _described(cluster: topology.ClusterPlan) -> str:
    return f"cluster {cluster.name} with {_counted(len(cluster.nodes), 'node')}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


async def _all(steps: Iterator[Awaitable[None]], noun: str) -> None:
    """Run these steps at the same time; each waits for one `noun`."""
    if every := list(steps):
        click.echo(f"waiting for {_counted(len(every), noun)}")
        await asyncio.gather(*every)


def _deployments(lab: outside.Lab, clients: dict[str, Client], loaded: Loaded) -> Iterator[Awaitable[None]]:
    """The steps that wait until all pods of the Deployments are ready."""
    for cluster, found in loaded.items():
        for namespace, name in manifests.deployments(found):
            waits = waiting.deployments(clients[cluster], [(namespace, name)])
            yield _or_told(waits, _why_not(lab, cluster, namespace, f"deployment/{name}"))


def _stateful_sets(lab: outside.Lab, clients: dict[str, Client], loaded: Loaded) -> Iterator[Awaitable[None]]:
    """The same for the StatefulSets."""
    for cluster, found in loaded.items():
        for namespace, name in manifests.stateful_sets(found):
            waits = waiting.stateful_sets(clients[cluster], [(namespace, name)])
            yield _or_told(waits, _why_not(lab, cluster, namespace, f"statefulset/{name}"))


def _why_not(lab: outside.Lab, cluster: str, namespace: str, workload: str) -> str:
    pods = hints.get(lab.state.name, cluster, f"-n {namespace} pods")
    return f"; see: {pods}, and: {hints.logs(lab.state.name, cluster, namespace, workload)}"


def _entrances(lab: outside.Lab, loaded: Loaded) -> Iterator[Awaitable[None]]:
    """The steps that wait, once pods are ready, until their load balancers reach them."""
    for cluster, found in loaded.items():
        for namespace, service in manifests.load_balancers(found):
            yield _or_told(lab.relay(cluster, namespace, service))


async def _or_told(step: Awaitable[object], hint: str = "") -> None:
    """Do it. A failure is printed but ends nothing: the user can look into it in the running lab."""
    try:
        await step
    except MoorageError as error:
        click.echo(f"moorage: {error}{hint}", err=True)


async def _show_relays(lab: outside.Lab) -> None:
    """Print the present relays, and then each new one, for ever."""
    shown: list[Relay] = []
    async with lab.changed:
        while True:
            for relay in lab.state.relays:
                if relay not in shown:
                    where = f"cluster {relay.cluster}: {relay.namespace}/{relay.service}"
                    click.echo(f"curl http://127.0.0.1:{relay.port}  # {where}")
            shown = lab.state.relays
            await lab.changed.wait()
