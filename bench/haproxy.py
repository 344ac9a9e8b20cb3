"""HAProxy in TCP mode with a stick table on the client's address: what people use instead. Pure."""

from collections.abc import Sequence


def config(address: str, port: int, endpoints: Sequence[str]) -> str:
    """A configuration: `address`:`port` leads to `endpoints` (`address:port`)."""
    servers = [f"    server endpoint-{number} {endpoint}" for number, endpoint in enumerate(endpoints)]
    return "\n".join(
        [
            "global",
            "    maxconn 1000",
            "defaults",
            "    mode tcp",
            "    timeout connect 5s",
            "    timeout client 30s",
            "    timeout server 30s",
            "listen service",
            f"    bind {address}:{port}",
            "    balance roundrobin",
            "    stick-table type ip size 200k expire 3h",
            "    stick on src",
            *servers,
            "",
        ]
    )
