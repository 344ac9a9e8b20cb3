"""A node between its clients and the endpoints, in three network namespaces on the real kernel.

```
clients 10.244.1.2..  --- node (the data plane) --- endpoints 203.0.113.1..9, 2001:db8::1..9, port 80
```

The first client is an endpoint itself, on the same port.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from moorage_lab.topology import up
from testing.inside import PYTHON
from tests.support.netns import Namespace, namespace

CLIENTS = [f"10.244.1.{number}" for number in range(2, 42)]
CLIENTS6 = [f"fd00:10:244:1::{number:x}" for number in range(2, 12)]
ENDPOINTS = [f"203.0.113.{number}" for number in range(1, 10)]
ENDPOINTS6 = [f"2001:db8::{number:x}" for number in range(1, 10)]
NODE = "203.0.113.254"
PORT = 80

_HERE = Path(__file__).parent


class Network:
    """The three namespaces, with servers that run and a client program that answers `ask`."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self.node = stack.enter_context(namespace())
        self.clients = self._behind("clients")
        self.endpoints = self._behind("endpoints")
        self._links()
        self.serve(self.endpoints, *ENDPOINTS, *ENDPOINTS6)
        self.serve(self.clients, CLIENTS[0], CLIENTS6[0])
        self._client = self._program(self.clients, "clients.py")

    def serve(self, where: Namespace, *addresses: str) -> None:
        """Start the servers of these addresses of a namespace."""
        servers = self._program(where, "endpoints.py", str(PORT), *addresses)
        assert servers.stdout is not None
        assert servers.stdout.readline() == "ready\n", "the endpoints' servers do not start"

    def ask(self, *request: str | int) -> str:
        """What the client program answers to a request of `tests.support.clients`."""
        assert self._client.stdin is not None
        assert self._client.stdout is not None
        print(json.dumps(request), file=self._client.stdin, flush=True)
        answer = json.loads(self._client.stdout.readline())
        assert isinstance(answer, str)
        return answer

    def _behind(self, name: str) -> Namespace:
        """One more network namespace of the node's user namespace, joined to the node by a link of that name."""
        argv = [*self.node.prefix, "unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec cat"]
        pipe = subprocess.PIPE
        holder = self._stack.enter_context(subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True))
        self._stack.callback(holder.kill)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n", f"cannot make the namespace of the {name}"
        self.node.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        return Namespace(holder.pid)

    def _links(self) -> None:
        for name, inside, addresses, gateway, gateway6 in (
            ("clients", self.clients, [*CLIENTS, *CLIENTS6], "10.244.1.1", "fd00:10:244:1::1"),
            ("endpoints", self.endpoints, [*ENDPOINTS, *ENDPOINTS6], NODE, "2001:db8::fe"),
        ):
            lines = [*up("eth0", "fe80::2", ipv6=True), *(_address(each, "eth0") for each in addresses)]
            lines += [f"route add default via {each}" for each in (gateway, gateway6)]
            ours = [*up(name, "fe80::1", ipv6=True), *(_address(each, name) for each in (gateway, gateway6))]
            self.node.run("ip", "-batch", "-", input="\n".join(ours) + "\n")
            inside.run("ip", "-batch", "-", input="\n".join(lines) + "\n")
        for setting in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self.node.run("sysctl", "-qw", f"{setting}=1")

    def _program(self, where: Namespace, name: str, *arguments: str) -> "subprocess.Popen[str]":
        argv = [*where.prefix, *PYTHON, str(_HERE / name), *arguments]
        pipe = subprocess.PIPE
        program = self._stack.enter_context(subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True))
        self._stack.callback(program.kill)
        return program


def _address(address: str, device: str) -> str:
    length, more = (64, " nodad") if ":" in address else (24, "")
    return f"address add {address}/{length} dev {device}{more}"


@contextmanager
def network() -> Iterator[Network]:
    """The network until the end of the block; all its processes end with it."""
    with ExitStack() as stack:
        yield Network(stack)
