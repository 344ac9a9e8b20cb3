"""Messages of the lab's supervisor to and from the outer process and init, and the socket pairs that carry them.

Messages are JSON, one in each packet (SOCK_SEQPACKET), some with a file descriptor (SCM_RIGHTS, unix(7)). When one
process ends, the other one reads end-of-file.
"""

import asyncio
import contextlib
import os
import socket
from typing import Self

import msgspec

from moorage_lab.topology import LabPlan

MAX_MESSAGE_BYTES = 1 << 17
"""Of one message; it fits into a socket buffer (net.core.wmem_default is 212,992)."""


class Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    pass


class Start(Message, frozen=True, kw_only=True):
    """To the supervisor, once and first: start this lab."""

    plan: LabPlan
    directory: str
    """The lab's directory, as its path is outside."""


class Stop(Message, frozen=True, kw_only=True):
    """To the supervisor: end the lab. The end of the channel means the same."""


class Listen(Message, frozen=True, kw_only=True):
    """To the outer process: a TCP socket that listens on 127.0.0.1 is needed."""

    number: int
    """Returned in `Listening`."""
    prefer: int
    """The port to try first, and then the next ones; any other will do."""


class Listening(Message, frozen=True, kw_only=True):
    """To the supervisor, together with the socket's file descriptor."""

    number: int
    port: int


class Relay(msgspec.Struct, frozen=True, kw_only=True):
    """A way in from the machine: 127.0.0.1:`port` is relayed to one port of a LoadBalancer Service."""

    cluster: str
    namespace: str
    service: str
    service_port: int
    address: str
    """The load balancer's address."""
    port: int


class Relays(Message, frozen=True, kw_only=True):
    """To the outer process, whenever they change: all present relays."""

    relays: list[Relay]


class Ready(Message, frozen=True, kw_only=True):
    """To the outer process, once: every API server answers. Cluster -> text of its kubeconfig."""

    kubeconfigs: dict[str, str]
    """For use outside the lab."""
    inside: dict[str, str]
    """For use inside: with the address by which the clusters reach each other."""


class Failed(Message, frozen=True, kw_only=True):
    """To the outer process: why the lab cannot go on. The end of the channel follows."""

    message: str


class Run(Message, frozen=True, kw_only=True):
    """To init: start this program, with the file descriptor that comes along, if any (`moorage_lab.forking`)."""

    number: int
    """Returned in `Ended`, and what `End` refers to."""
    argv: list[str]
    netns: str
    """The network namespace that it runs in; `""`: the internet."""
    log: str
    """The file that its output is added to."""


class End(Message, frozen=True, kw_only=True):
    """To init: ask this program to end."""

    number: int


class Ended(Message, frozen=True, kw_only=True):
    """To the supervisor: this program has ended."""

    number: int
    status: int
    """Below 0: the signal that ended it."""


_Any = Start | Stop | Listen | Listening | Relays | Ready | Failed | Run | End | Ended


class Channel:
    """One end of the pair, for one event loop."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._readable = asyncio.Event()
        self._decoder = msgspec.json.Decoder(_Any)
        asyncio.get_running_loop().add_reader(end, self._readable.set)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it. Closing twice is allowed."""
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send at once. If the other end is gone, the message is lost without an error: its end is noticed by
        reading."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._socket, [msgspec.json.encode(message)], [] if descriptor is None else [descriptor])

    async def receive(self) -> tuple[Message, int | None] | None:
        """The next message, and the file descriptor that came with it, which the caller must close; None at the
        end."""
        while True:
            await self._readable.wait()
            try:
                data, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE_BYTES, 1)
            except BlockingIOError:
                self._readable.clear()
            except ConnectionResetError:
                return None
            else:
                if not data:
                    return None
                for descriptor in descriptors:
                    # MSG_CMSG_CLOEXEC would do it at once, but recv_fds ignores its flags (Python 3.11).
                    os.set_inheritable(descriptor, False)
                return self._decoder.decode(data), descriptors[0] if descriptors else None
