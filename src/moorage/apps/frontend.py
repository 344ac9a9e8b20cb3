"""The demo's frontend: asks the backend again for every request, and answers with both names."""

import ipaddress
import os
import socket
from collections.abc import Mapping

import aiohttp
from aiohttp import web
from yarl import URL

from moorage.apps.server import Handler, SettingError, listen, port_setting, serve

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5, sock_read=5)
"""Seconds for a whole request; for name resolution and connecting; and for each wait for the backend's bytes."""


class UnavailableError(Exception):
    """The backend could not be asked; the message says why, in one line."""


def backend_url(environment: Mapping[str, str]) -> URL:
    """`http://$BACKEND_HOST:$BACKEND_PORT`. The host is a name, an IPv4 address, or an IPv6 address with or without
    brackets.

    Raises SettingError.
    """
    host = environment.get("BACKEND_HOST", "").strip()
    if not host:
        raise SettingError("environment variable BACKEND_HOST: not set; set it to the backend's name or address")
    port = port_setting(environment, "BACKEND_PORT")
    try:
        if ":" in host:
            host = str(ipaddress.IPv6Address(host.removeprefix("[").removesuffix("]")))
        return URL.build(scheme="http", host=host, port=port, path="/")
    except ValueError:
        raise SettingError(
            f"environment variable BACKEND_HOST: {host!r} is not a host; set it to a name or an IP address"
        ) from None


async def ask(session: aiohttp.ClientSession, url: URL) -> str:
    """The backend's line, with its newline. Raises UnavailableError."""
    try:
        async with session.get(url, allow_redirects=False) as response:
            if response.status != 200:
                raise UnavailableError(f"{url.authority} answered {response.status} {response.reason}")
            return await response.text(errors="replace")
    except TimeoutError:
        raise UnavailableError(f"{url.authority} did not answer in time") from None
    except aiohttp.ClientConnectorDNSError as error:
        raise UnavailableError(f"{url.host} has no address: {error.strerror or error.os_error}") from None
    except aiohttp.ClientConnectorError as error:
        raise UnavailableError(f"cannot connect to {url.authority}: {reason(error.os_error)}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise UnavailableError(f"{url.authority}: {error or type(error).__name__}") from None


def handler(hostname: str, session: aiohttp.ClientSession, url: URL) -> Handler:
    """Answers `frontend[<hostname>] -> ` and the backend's line; 500 if the backend cannot be asked."""

    async def answer(_request: web.BaseRequest) -> web.Response:
        try:
            return web.Response(text=f"frontend[{hostname}] -> {await ask(session, url)}")
        except UnavailableError as error:
            return web.Response(status=500, text=f"Backend not available: {error}\n")

    return answer


def new_session(timeout: aiohttp.ClientTimeout = TIMEOUT) -> aiohttp.ClientSession:
    """A client that opens a new connection and resolves the name again for every request."""
    connector = aiohttp.TCPConnector(
        limit=0, force_close=True, use_dns_cache=False, resolver=aiohttp.ThreadedResolver()
    )
    return aiohttp.ClientSession(connector=connector, timeout=timeout)


async def run(environment: Mapping[str, str]) -> None:
    """Serve on `PORT` until SIGTERM or SIGINT. Raises SettingError."""
    url = backend_url(environment)
    listener = listen(port_setting(environment, "PORT"))
    async with new_session() as session:
        await serve(handler(socket.gethostname(), session, url), listener)


def reason(error: OSError) -> str:
    """What the machine calls it, in place of a library's own words."""
    return os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
