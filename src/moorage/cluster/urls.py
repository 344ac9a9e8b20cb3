"""Reads the URL of an API server as kubectl does."""

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
    """`text` as `scheme://host[:port][/path]`, so that equal servers have equal text.

    Scheme and host are in lower case, names in IDNA form (RFC 3490), the scheme's default port is left out, and the
    path is cleaned like Go's path.Join: no `//`, no `..`, no slash at the end. Query and fragment are left out.
    Raises ValueError for anything else, and for a URL with a user name; its message does not quote the text.
    """
    if not text.isprintable() or " " in text:
        raise ValueError("not printable")  # urlsplit would drop line breaks
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
