"""`moorage render`: the nft script for manifests. Reads files, prints, and touches nothing."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import NamedTuple, TypeVar

import click
import msgspec
from msgspec.structs import replace

from moorage.api.contract import CARRIED_SELECTOR
from moorage.api.core_v1 import Endpoints, Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.api.manifest import Manifest, load_only
from moorage.api.meta import Object, ObjectMeta
from moorage.api.mirroring import is_mirrored, mirrored
from moorage.dataplane.changes import Ledger
from moorage.dataplane.desired import Desired
from moorage.dataplane.ruleset import base
from moorage.dataplane.services import Scope, carried

RANGES: dict[str, IPv4Network | IPv6Network] = {
    "IPv4": IPv4Network("10.96.0.0/12"),
    "IPv6": IPv6Network("fd00:10:96::/112"),
}
"""Ranges for cluster IPs that manifests leave to the cluster: kubeadm's for IPv4, a similar one for IPv6."""

_NO_LIMIT = 2**63
"""How many elements a transaction may have: nft reads the output as one transaction."""

T = TypeVar("T", bound=Object)


class Rendered(NamedTuple):
    """What to print."""

    script: str
    """For `nft -f -`, with comments about what the manifests leave open."""
    warnings: tuple[str, ...]
    """A line for each thing that was left out."""


@click.command()
@click.option("-f", "--filename", "files", multiple=True, metavar="FILE", help="The same as FILE.")
@click.argument("more", nargs=-1, metavar="[FILE]...")
@click.option("--node", default="node", show_default=True, help="The node's name; endpoints on it are local.")
@click.option(
    "--services",
    type=click.Choice(["all", "labelled"]),
    default="all",
    show_default=True,
    help=f"All Services, or those labelled {CARRIED_SELECTOR}.",
)
@click.option("--ipv6-sessions", is_flag=True, help="Learn IPv6 sessions, which takes nft 1.1 (1.0.6 aborts).")
def command(files: tuple[str, ...], more: tuple[str, ...], node: str, services: str, ipv6_sessions: bool) -> None:
    """Print the nft script that carries the Services and EndpointSlices of manifests; touch nothing.

    FILE is a file, a directory, or - for standard input. Services without clusterIP get one for the occasion, always
    the same. Objects of other kinds are left out.
    """
    if not (files or more):
        raise click.UsageError("say which manifests: FILE, a directory, or -")
    manifests, left_out = load_only((Service, EndpointSlice, Endpoints), [*files, *more])
    rendered = render(manifests, Scope(node, labelled_only=services == "labelled"), learn6=ipv6_sessions)
    for warning in [*left_out, *rendered.warnings]:
        click.echo(f"moorage: {warning}", err=True)
    click.echo(rendered.script, nl=False)


def render(manifests: Iterable[Manifest], scope: Scope, *, learn6: bool) -> Rendered:
    """The script that a node agent would run on an empty kernel for `manifests`, and what it leaves out. Pure.

    `learn6`: whether IPv6 sessions are learned.
    """
    manifests = list(manifests)
    given = {_name(manifest): service for manifest, service in _of(manifests, Service)}
    services = with_cluster_ips(given)
    warnings: list[str] = []
    slices = _slices(manifests, services, warnings)
    desired = Desired()
    comments = [f"# What node {scope.node} carries of these manifests."] if scope.node.isprintable() else []
    for name, service in sorted(services.items()):
        found = carried(service, slices[name], scope)
        warnings += found.warnings
        desired.put(name, found.ports)
        if found.ports:
            comments += _comments(name, given[name], service, bool(slices[name]))
    warnings += desired.conflicts()
    ledger = Ledger({}, frozenset({4, 6} if learn6 else {4}), _NO_LIMIT)
    return Rendered(
        "\n".join([*comments, *base(learn6), *(each.script for each in ledger.change_to(desired.state))]),
        tuple(dict.fromkeys(warnings)),
    )


def with_cluster_ips(services: dict[str, Service]) -> dict[str, Service]:
    """`services` by `namespace/name`, each with the cluster IPs that a cluster would give it.

    The address is a hash of the name, so that adding or removing a Service does not change those of others.
    """
    taken = {str(ip_address(each)) for service in services.values() for each in service.spec.every_cluster_ip}
    result = {}
    for name, service in sorted(services.items()):
        result[name] = service
        if not service.spec.cluster_ip and service.spec.type != "ExternalName":
            addresses = [_allocate(name, RANGES[family], taken) for family in _families(service)]
            taken.update(addresses)
            spec = replace(service.spec, cluster_ip=addresses[0], cluster_ips=addresses)
            result[name] = replace(service, spec=spec)
    return result


def _families(service: Service) -> list[str]:
    families = list(service.spec.ip_families or ["IPv4"])
    if service.spec.ip_family_policy in ("PreferDualStack", "RequireDualStack"):
        families += [family for family in RANGES if family not in families]
    return families


def _allocate(name: str, network: IPv4Network | IPv6Network, taken: set[str]) -> str:
    usable = network.num_addresses - 2  # neither the first nor the last
    start = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
    candidates = (str(network[1 + (start + step) % usable]) for step in range(usable))
    return next(address for address in candidates if address not in taken)


def _comments(name: str, given: Service, service: Service, has_slices: bool) -> Iterator[str]:
    if not given.spec.cluster_ip:
        addresses = " and ".join(service.spec.cluster_ips or ())
        yield f"# Service {name}: no clusterIP in the manifests; {addresses} stands in for what a cluster gives it."
    if not has_slices:
        why = "they are pods, which manifests do not name" if service.spec.selector else "no EndpointSlice names it"
        yield f"# Service {name}: no endpoints ({why}); new connections are rejected."


def _slices(
    manifests: list[Manifest], services: dict[str, Service], warnings: list[str]
) -> dict[str, list[EndpointSlice]]:
    """The slices of each Service, by `namespace/name`, including those that mirror Endpoints (KEP-752)."""
    result: dict[str, list[EndpointSlice]] = defaultdict(list)
    for manifest, slice_ in _of(manifests, EndpointSlice):
        label = (slice_.metadata.labels or {}).get(SERVICE_NAME_LABEL)
        service = f"{manifest.namespace}/{label}"
        where = f"{manifest.file}: EndpointSlice {_name(manifest)}: metadata.labels[{SERVICE_NAME_LABEL}]"
        if not label:
            warnings.append(f"{where}: missing, so the slice is ignored; set it to the Service's name")
        elif service not in services:
            warnings.append(f"{where}: no Service {service}, so the slice is ignored; add it, or correct the name")
        else:
            result[service].append(slice_)
    for manifest, endpoints in _of(manifests, Endpoints):
        name = _name(manifest)
        if name not in services:
            problem = f"no Service {name}, so the Endpoints are ignored; add it, or correct the name"
            warnings.append(f"{manifest.file}: Endpoints {name}: metadata.name: {problem}")
        elif is_mirrored(endpoints, services[name]):
            result[name] += _mirrored(endpoints)
    return result


def _mirrored(endpoints: Endpoints) -> Iterator[EndpointSlice]:
    for number, (key, group) in enumerate(mirrored(endpoints).items()):
        metadata = ObjectMeta(name=f"{endpoints.metadata.name}-{number}", namespace=endpoints.metadata.namespace)
        yield EndpointSlice(
            metadata=metadata, address_type=key.address_type, ports=list(key.ports), endpoints=list(group)
        )


def _of(manifests: Iterable[Manifest], type_: type[T]) -> Iterator[tuple[Manifest, T]]:
    """The objects of one type."""
    for manifest in manifests:
        if manifest.kind.type is type_:
            yield manifest, msgspec.convert(manifest.object, type_)


def _name(manifest: Manifest) -> str:
    return f"{manifest.namespace}/{manifest.name}"
