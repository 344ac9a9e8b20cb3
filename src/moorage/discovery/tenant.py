"""Kubeconfigs of tenants, from Secrets: read by our own rules, used by a client that is held to them.

Whoever may write an ExternalService and a Secret chooses what the operator connects to and what it sends there. So
nothing in such a kubeconfig may name a file (`tokenFile` would hand the operator's own token to a tenant's server), a
program or a proxy, and every connection passes the gate.
"""

import base64
import binascii
import socket
import ssl
from collections.abc import Callable
from ipaddress import ip_address
from itertools import islice
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from moorage.api.core_v1 import Secret
from moorage.api.manifest_yaml import TextError, UnquotedError, bounded_documents
from moorage.api.show import show
from moorage.cluster.client import Client
from moorage.cluster.connections import Guard
from moorage.cluster.kubeconfig import Config
from moorage.cluster.pace import Pace
from moorage.cluster.room import Room
from moorage.cluster.tls import ssl_context
from moorage.core.admission import Gate
from moorage.discovery.foreign import MOST_SERVICES
from moorage.discovery.resolver import LookupFailedError, Names
from moorage.discovery.secrets import LARGEST
from moorage.errors import MoorageError

MOST_VALUES = 2000
"""Of a kubeconfig; a context with its cluster and user has some 40. They are read on the event loop."""
LONGEST_KEY = 4 * 2**10
"""Bytes of a client's key: RSA of 4096 bits has about 3.2 KiB. Each connection signs with it, for 12 ms with that one
and for seconds with one of 16384 bits, while nothing else is done."""
LONGEST_ANSWER = 8 * 2**20
"""Bytes of another cluster's answer; a page of 100 ordinary Services is about 400 KiB."""
LONGEST_LIST = 4 * LONGEST_ANSWER
PAGE = 100
MOST_CONNECTIONS = 2
"""To one server: its watch, and one for what is asked beside it."""
TIMEOUT = 15.0
"""Seconds for one request to another cluster."""

_PROGRAMS = "programs that fetch credentials are never run; use a token or client-certificate-data"
_FILES = "files are never read; put the contents into {field}-data (kubectl config view --raw --flatten does)"
_PASSWORDS = "Kubernetes has no passwords since 1.19; use a token"
_IMPERSONATION = "impersonation is not supported; use that user's own token"
_REFUSED_OF_CLUSTER = {
    "certificate-authority": _FILES,
    "proxy-url": "proxies are not used; give a server that is reached directly",
}
_REFUSED_OF_USER = {
    "exec": _PROGRAMS,
    "auth-provider": _PROGRAMS,
    "tokenFile": "files are never read; put the token itself into token",
    "client-certificate": _FILES,
    "client-key": _FILES,
    "username": _PASSWORDS,
    "password": _PASSWORDS,
    "as": _IMPERSONATION,
    "as-uid": _IMPERSONATION,
    "as-groups": _IMPERSONATION,
    "as-user-extra": _IMPERSONATION,
}

Mapping = dict[str, Any]


class Kubeconfig(NamedTuple):
    """What a tenant's kubeconfig says."""

    config: Config
    field: str
    """Secret, key and field that name the server."""
    tls: ssl.SSLContext | None
    """Kept, so that all who connect by this kubeconfig share it."""

    def refusal(self, gate: Gate) -> str | None:
        """Why the server may not be connected to, where its address says so, and what to do.

        None for a name: it is looked up, and passes the gate, whenever a connection is opened.
        """
        host = urlsplit(self.config.server).hostname or ""
        try:
            ip_address(host)
        except ValueError:
            return None
        why = gate.refusal(host)
        return f"{self.field}: {host} is {why}; the server must be outside this cluster" if why else None


def read_kubeconfig(secret: Secret, key: str) -> Kubeconfig:
    """The server and identity in the kubeconfig that is in `key` of `secret`.

    Raises MoorageError that names Secret, key and field: for anything in it that names a file, a program, a proxy or
    another identity, in whichever of its contexts; for credentials that are missing, and TLS that is not verified.
    """
    where = f"Secret {secret.metadata.namespace}/{secret.metadata.name}"
    encoded = (secret.data or {}).get(key)
    if encoded is None:
        known = ", ".join(sorted(secret.data or {})[:5]) or "none"
        raise MoorageError(f"{where}: has no key {show(key)}; its keys are: {known}")
    where = f"{where}, key {key}"
    try:
        text = base64.b64decode(encoded, validate=True)
        if len(text) > LARGEST:
            raise MoorageError(f"{where}: too large; a kubeconfig has at most {LARGEST} bytes")
        return _read(text.decode(), lambda field, what: MoorageError(f"{where}: {field}: {what}"), where)
    except (binascii.Error, UnicodeDecodeError):
        raise MoorageError(f"{where}: is not text; put a kubeconfig there") from None


_Complain = Callable[[str, str], MoorageError]


def _read(text: str, complain: _Complain, where: str) -> Kubeconfig:
    file = _document(text, complain)
    clusters, users = _named(file, "cluster", complain), _named(file, "user", complain)
    contexts = _named(file, "context", complain)
    # In all of them, also in those that are not used: it must not matter which context is the current one.
    for name, cluster in clusters.items():
        _refuse(cluster, _REFUSED_OF_CLUSTER, f"clusters[{show(name)}].cluster", complain)
    for name, user in users.items():
        _refuse(user, _REFUSED_OF_USER, f"users[{show(name)}].user", complain)

    current = _text(file, "current-context", "", complain)
    if not current:
        raise complain("current-context", "is not set; name a context")
    if current not in contexts:
        known = ", ".join(sorted(contexts)[:5]) or "none"
        raise complain("current-context", f"no context is named {show(current)}; there are: {known}")
    at = f"contexts[{show(current)}].context"
    cluster_name = _text(contexts[current], "cluster", at, complain)
    user_name = _text(contexts[current], "user", at, complain)
    if cluster_name not in clusters:
        raise complain(f"{at}.cluster", f"no cluster is named {show(cluster_name)}")
    if user_name not in users:
        raise complain(f"{at}.user", f"no user is named {show(user_name)}")
    config = _config(clusters[cluster_name], users[user_name], cluster_name, user_name, complain)
    try:
        tls = ssl_context(config)
    except MoorageError as error:
        raise complain("certificates", str(error)) from None
    return Kubeconfig(config, f"{where}: clusters[{show(cluster_name)}].cluster.server", tls)


def _config(cluster: Mapping, user: Mapping, cluster_name: str, user_name: str, complain: _Complain) -> Config:
    at_cluster, at_user = f"clusters[{show(cluster_name)}].cluster", f"users[{show(user_name)}].user"
    if cluster.get("insecure-skip-tls-verify"):
        raise complain(
            f"{at_cluster}.insecure-skip-tls-verify",
            "the credentials would go to whoever answers; give certificate-authority-data",
        )
    config = Config(
        server=_server(_text(cluster, "server", at_cluster, complain), f"{at_cluster}.server", complain),
        token=_text(user, "token", at_user, complain).strip() or None,
        ca=_pem(cluster, "certificate-authority-data", at_cluster, complain),
        client_certificate=_pem(user, "client-certificate-data", at_user, complain),
        client_key=_pem(user, "client-key-data", at_user, complain),
        tls_server_name=_text(cluster, "tls-server-name", at_cluster, complain) or None,
    )
    if (config.client_certificate is None) != (config.client_key is None):
        raise complain(at_user, "client-certificate-data and client-key-data are needed both, or neither")
    if config.client_key and len(config.client_key) > LONGEST_KEY:
        raise complain(
            f"{at_user}.client-key-data",
            f"{len(config.client_key)} bytes, more than {LONGEST_KEY}; use an ECDSA key, or RSA of at most 4096 bits",
        )
    if config.token is None and config.client_key is None:
        raise complain(at_user, "has neither a token nor client-certificate-data; put one in")
    if config.token and not (config.token.isascii() and config.token.isprintable()):
        raise complain(f"{at_user}.token", "holds characters that no token has; copy it again")
    return config


def _document(text: str, complain: _Complain) -> Mapping:
    values = []
    for found in islice(bounded_documents(text, MOST_VALUES), 2):
        if isinstance(found, UnquotedError):
            raise complain("kubeconfig", str(found))
        if isinstance(found, TextError):
            # Its own words may quote what is there, which whoever reads a status need not have the right to read.
            what = "not valid YAML, or a key that is given twice; fetch the kubeconfig anew"
            raise complain("kubeconfig", f"line {found.line}: {what}")
        values.append(found.value)
    if len(values) != 1:
        raise complain(
            "kubeconfig", f"holds {'several' if values else 'no'} YAML documents; put one kubeconfig there"
        )
    if not isinstance(values[0], dict):
        raise complain("kubeconfig", "is not one: it must hold one mapping")
    return values[0]


def _named(file: Mapping, kind: str, complain: _Complain) -> dict[str, Mapping]:
    """The clusters, users or contexts of a kubeconfig, by name."""
    entries = file.get(f"{kind}s") or []
    if not isinstance(entries, list):
        raise complain(f"{kind}s", "is not a list")
    found: dict[str, Mapping] = {}
    for index, entry in enumerate(entries):
        at = f"{kind}s[{index}]"
        if not isinstance(entry, dict):
            raise complain(at, "is not a mapping")
        name = _text(entry, "name", at, complain)
        value = entry.get(kind) or {}
        if not isinstance(value, dict):
            raise complain(f"{at}.{kind}", "is not a mapping")
        if name in found:
            raise complain(at, f"{kind} {show(name)} is there twice; keep one")
        found[name] = value
    return found


def _refuse(of: Mapping, fields: dict[str, str], at: str, complain: _Complain) -> None:
    for field, why in fields.items():
        # Tools write fields that are not set, too; Kubernetes takes names in any case.
        if any(value for name, value in of.items() if name.lower() == field.lower()):
            raise complain(f"{at}.{field}", why.format(field=field))


def _text(of: Mapping, field: str, at: str, complain: _Complain) -> str:
    value = of.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise complain(f"{at}.{field}".lstrip("."), "is not text; put it in quotes")
    return value


def _pem(of: Mapping, field: str, at: str, complain: _Complain) -> str | None:
    data = _text(of, field, at, complain)
    if not data:
        return None
    try:
        text = base64.b64decode("".join(data.split()), validate=True).decode()
    except (binascii.Error, ValueError):
        raise complain(f"{at}.{field}", "is not base64 of PEM text") from None
    if "-----BEGIN " not in text:
        raise complain(f"{at}.{field}", "holds no PEM text (-----BEGIN ...)")
    return text


def _server(server: str, field: str, complain: _Complain) -> str:
    if "@" in server:  # Also where it is no URL otherwise: a message must not quote a password.
        raise complain(field, "has a user name or password in it; use a token")
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
        _ = URL(server).host  # of which requests are made, and which raises for names that IDNA (RFC 3490) forbids
    except ValueError:
        host, port = None, None
    else:
        if parts.scheme != "https" or parts.query or parts.fragment or port == 0:
            host = None
    if not host:
        raise complain(field, f"{show(server)} is not a URL such as https://203.0.113.10:6443")
    return server.rstrip("/")


def client_of(
    config: Config, names: Names, gate: Callable[[], Gate], *, pace: Pace | None = None, room: Room | None = None
) -> Client:
    """A client of a tenant's server: every connection passes the gate as it is then, every answer is bounded.

    `pace` and `room` are those of its namespace.
    """
    guard = Guard(
        refusal=lambda address: gate().refusal(address),
        resolver=_Resolver(names),
        longest_answer=LONGEST_ANSWER,
        longest_list=LONGEST_LIST,
        most_objects=MOST_SERVICES,
        page=PAGE,
        most_connections=MOST_CONNECTIONS,
        pace=pace,
        room=room,
    )
    return Client(config, timeout=TIMEOUT, guard=guard)


class _Resolver(AbstractResolver):
    """Absolute names only, by DNS only: no /etc/hosts, and no thread that waits."""

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
