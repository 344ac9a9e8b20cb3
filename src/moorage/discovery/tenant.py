"""Kubeconfigs of tenants, from Secrets, with a policy of their own and limits on their use.

Whoever may write an ExternalService and a Secret chooses what the operator connects to and what it sends there. So
nothing in such a kubeconfig may name a file (`tokenFile` would hand the operator's own token to a tenant's server), a
program or a proxy, and every connection passes the gate.
"""

import base64
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

from moorage.api.core_v1 import Secret
from moorage.api.show import show
from moorage.cluster.client import Client
from moorage.cluster.connections import Guard
from moorage.cluster.kubeconfig import OURS, Config, Policy, parse
from moorage.cluster.pace import Pace
from moorage.cluster.room import Room
from moorage.cluster.tls import inspected, ssl_context
from moorage.core.admission import Gate
from moorage.discovery.foreign import MAX_SERVICES
from moorage.discovery.resolver import LookupFailedError, Names
from moorage.discovery.secrets import MAX_VALUE_BYTES
from moorage.errors import MoorageError

MAX_VALUES = 2000
"""Of a kubeconfig; a context with its cluster and user has some 40. They are parsed on the event loop."""
MAX_KEY_BYTES = 4 * 2**10
"""Of a client's key; RSA of 4096 bits has about 3.2 KiB. Each connection signs with the key while nothing else
runs: that takes 12 ms with 4096 bits, and seconds with 16384."""
MAX_ANSWER_BYTES = 8 * 2**20
"""One answer of another cluster; a page of 100 ordinary Services has about 400 KiB."""
MAX_LIST_BYTES = 4 * MAX_ANSWER_BYTES
PAGE_OBJECTS = 100
MAX_CONNECTIONS = 2
"""To one server: one for the watch, and one for other requests."""
TIMEOUT_SECONDS = 15.0
"""For one request to another cluster."""

_FILES = "files are never read; put the contents into {field}-data (kubectl config view --raw --flatten does)"
TENANTS = Policy(
    refused_of_cluster={
        **OURS.refused_of_cluster,
        "certificate-authority": _FILES,
        "insecure-skip-tls-verify": "the credentials would go to whoever answers; give certificate-authority-data",
    },
    refused_of_user={
        **OURS.refused_of_user,
        "tokenFile": "files are never read; put the token itself into token",
        "client-certificate": _FILES,
        "client-key": _FILES,
    },
    max_values=MAX_VALUES,
    every_context=True,  # The same must be refused whichever context is the current one.
    plain_http=False,
    anonymous=False,
    max_key_bytes=MAX_KEY_BYTES,
)


class Kubeconfig(NamedTuple):
    """The content of a tenant's kubeconfig."""

    config: Config
    field: str
    """Secret, key and field that name the server."""
    tls: ssl.SSLContext | None
    """Kept here so that all who connect with this kubeconfig share it."""

    def refusal(self, gate: Gate) -> str | None:
        """Why one may not connect to this server, if its address alone tells, and what to do.

        None for a name: it is looked up, and checked by the gate, whenever a connection is opened.
        """
        host = urlsplit(self.config.server).hostname or ""
        try:
            ip_address(host)
        except ValueError:
            return None
        why = gate.refusal(host)
        return f"{self.field}: {host} is {why}; the server must be outside this cluster" if why else None


def read_kubeconfig(secret: Secret, key: str) -> Kubeconfig:
    """The server and identity of the kubeconfig in `key` of `secret`.

    Raises MoorageError with Secret, key and field if any of its contexts names a file, a program, a proxy or another
    identity, and for missing credentials or TLS without verification.
    """
    where = f"Secret {secret.metadata.namespace}/{secret.metadata.name}"
    encoded = (secret.data or {}).get(key)
    if encoded is None:
        known = ", ".join(sorted(secret.data or {})[:5]) or "none"
        raise MoorageError(f"{where}: has no key {show(key)}; its keys are: {known}")
    where = f"{where}, key {key}"
    try:
        content = base64.b64decode(encoded, validate=True)
        if len(content) > MAX_VALUE_BYTES:
            raise MoorageError(f"{where}: too large; a kubeconfig has at most {MAX_VALUE_BYTES} bytes")
        text = content.decode()
    except ValueError:
        raise MoorageError(f"{where}: is not text; put a kubeconfig there") from None

    def complain(field: str, what: str) -> MoorageError:
        return MoorageError(f"{where}: {field or 'kubeconfig'}: {what}")

    found = parse(text, TENANTS, complain)
    try:
        config = inspected(found.config)
        tls = ssl_context(config)
    except MoorageError as error:
        raise complain("certificates", str(error)) from None
    return Kubeconfig(config, f"{where}: {found.field}", tls)


def client_of(
    config: Config, names: Names, gate: Callable[[], Gate], *, pace: Pace | None = None, room: Room | None = None
) -> Client:
    """A client for a tenant's server. Every connection must pass the gate, and every answer is bounded.

    `pace` and `room` belong to the tenant's namespace.
    """
    guard = Guard(
        refusal=lambda address: gate().refusal(address),
        resolver=_Resolver(names),
        max_answer_bytes=MAX_ANSWER_BYTES,
        max_list_bytes=MAX_LIST_BYTES,
        max_objects=MAX_SERVICES,
        page=PAGE_OBJECTS,
        max_connections=MAX_CONNECTIONS,
        pace=pace,
        room=room,
    )
    return Client(config, timeout=TIMEOUT_SECONDS, guard=guard)


class _Resolver(AbstractResolver):
    """Resolves absolute names, with DNS only: no /etc/hosts, and no waiting thread."""

    def __init__(self, names: Names) -> None:
        self._names = names

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found: list[ResolveResult] = []
        failures = []
        for kind, of in (("A", socket.AF_INET), ("AAAA", socket.AF_INET6)):
            if family not in (socket.AF_UNSPEC, of):
                continue
            try:
                answer = await self._names.addresses(host, cast("Any", kind))
            except LookupFailedError as error:
                failures.append(str(error))
                continue
            found += [
                ResolveResult(hostname=host, host=address, port=port, family=of, proto=0, flags=0)
                for address in answer.addresses[:8]
            ]
        if not found:
            raise OSError("; ".join(failures) or f"{host} has no address")
        return found

    async def close(self) -> None:
        pass
