"""The URL of an API server, as kubectl reads it."""

import posixpath
from ipaddress import ip_address
from urllib.parse import urlsplit

from yarl import URL

from moorage.api.schema import SERVER_NAME

_PORTS = {"http": 80, "https": 443}


def is_server_name(text: str) -> bool:
    """Whether TLS can ask for a server by this name: a DNS name without a trailing dot, or an IP address."""
    return len(text) <= 253 and SERVER_NAME.holds(text)


def server_url(text: str) -> str:
    """`text` as `scheme://host[:port][/path]`, so that equal servers are equal text.

    Scheme and host are in lower case, names as IDNA has them (RFC 3490), the port is left out where it is the
    scheme's own, and the path is cleaned as Go's path.Join does it: no `//`, no `..`, no slash at its end. Query and
    fragment are left out. Raises ValueError for what is no such URL, with a user name too: it is not quoted.
    """
    if not text.isprintable() or " " in text:
        raise ValueError("not printable")  # urlsplit would leave line breaks out
    parts = urlsplit(text)
    if parts.scheme not in _PORTS or "@" in parts.netloc or parts.port == 0:
        raise ValueError("no URL of a server")
    host = parts.hostname or ""
    try:
        ip_address(host)
    except ValueError:
        host = URL(text).raw_host or ""
        if not is_server_name(host.removesuffix(".")):
            raise ValueError("no name of a server") from None
    bracketed = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{bracketed}{port}{posixpath.normpath('/' + parts.path.lstrip('/')).rstrip('/')}"
