"""The server as a process: certificates and kubeconfigs on disk, sockets, and a clean shutdown."""

import asyncio
import secrets
import signal
import socket
import ssl
from pathlib import Path
from typing import NamedTuple

from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage_lab.apiserver import credentials
from moorage_lab.apiserver.server import ApiServer

_log = get_logger(__name__)


class Plan(NamedTuple):
    """What to serve, from the command line."""

    addresses: tuple[str, ...]
    port: int
    sockets: tuple[int, ...]
    """File descriptors of sockets that are listening already."""
    token: str | None
    certificate: Path | None
    key: Path | None
    ca: Path | None
    directory: Path | None
    names: tuple[str, ...]
    plain: bool
    kubeconfigs: tuple[tuple[Path, str], ...]
    """Files to write, each with the server's URL in it."""
    cluster: str
    ranges: tuple[str, ...]


async def run(plan: Plan) -> None:
    """Serve until SIGTERM or SIGINT. Raises MoorageError if it cannot start."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    plan, tls, ca = _credentials(plan)
    async with ApiServer(token=plan.token, service_ranges=plan.ranges, cluster=plan.cluster) as server:
        urls = []
        for address in plan.addresses:
            port = await server.listen(address, plan.port, tls)
            urls.append(_url(address, port, tls))
        for descriptor in plan.sockets:
            listener = _inherited(descriptor)
            address, port = listener.getsockname()[:2]
            await server.listen_on(listener, tls)
            urls.append(_url(address, port, tls))
        files = list(plan.kubeconfigs)
        if plan.directory is not None:
            files.append((plan.directory / "kubeconfig", urls[0]))
        for file, url in files:
            _write(file, credentials.kubeconfig(url, plan.token, ca, plan.cluster))
        _log.info("the API server listens", cluster=plan.cluster, urls=urls)
        await stop.wait()


def _credentials(plan: Plan) -> tuple[Plan, ssl.SSLContext | None, str | None]:
    """The plan with its token, the TLS set-up, and the CA for kubeconfigs."""
    directory = plan.directory
    if directory is not None:
        plan = plan._replace(token=plan.token or secrets.token_urlsafe(32))
        if not plan.plain and plan.certificate is None:
            plan = _issue(plan, directory)
    if plan.plain:
        return plan, None, None
    assert plan.certificate is not None
    assert plan.key is not None
    try:
        ca = plan.ca.read_text() if plan.ca is not None else None
        return plan, credentials.server_context(plan.certificate, plan.key), ca
    except (OSError, UnicodeDecodeError) as error:
        raise MoorageError(f"API server: certificate {plan.certificate}: {error}; give PEM files that fit") from None


def _issue(plan: Plan, directory: Path) -> Plan:
    own = [address for address in plan.addresses if address not in ("0.0.0.0", "::")]
    issued = credentials.issue([*own, *plan.names])
    ca, certificate, key = directory / "ca.crt", directory / "tls.crt", directory / "tls.key"
    _write(ca, issued.ca)
    _write(certificate, issued.certificate)
    _write(key, issued.key)
    return plan._replace(ca=ca, certificate=certificate, key=key)


def _inherited(descriptor: int) -> socket.socket:
    try:
        listener = socket.socket(fileno=descriptor)
        if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise OSError("it does not listen")
    except OSError as error:
        raise MoorageError(
            f"API server: --socket-fd {descriptor}: {error.strerror or error}; pass a listening TCP socket"
        ) from None
    return listener


def _url(address: str, port: int, tls: ssl.SSLContext | None) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"{'https' if tls else 'http'}://{host}:{port}"


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        credentials.write_private(file, text)
    except OSError as error:
        raise MoorageError(f"API server: {file}: {error.strerror or error}; choose another place") from None
