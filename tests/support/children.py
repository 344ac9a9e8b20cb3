"""Child processes that a test plays."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

import msgspec

from moorage.outside.child import serve
from moorage.outside.messages import Ping, Pong

M = TypeVar("M")


class PlayedChild:
    """A child in this process: `told` is what it was told; it answers what it is asked while it is not `hung`."""

    full = False

    def __init__(self, how: str = "ended with status 1") -> None:
        self.told: list[Any] = []
        self.hung = False
        self.closed = self.killed = False
        self.room = asyncio.Event()
        """While it is not set, the child takes nothing more."""
        self.room.set()
        self._how = how
        self._says: asyncio.Queue[Any] = asyncio.Queue()

    @property
    def channel(self) -> "PlayedChild":
        return self

    def say(self, message: object) -> None:
        """Tell the operator."""
        self._says.put_nowait(message)

    def die(self) -> None:
        self._says.put_nowait(None)

    # --- as a channel, and a child, of the operator ---

    async def receive(self) -> Any:
        return await self._says.get()

    def send(self, message: object) -> None:
        if not isinstance(message, Ping):
            self.told.append(message)
        elif not self.hung:
            self.say(Pong(message.number))

    async def ready(self) -> None:
        await self.room.wait()

    def close(self) -> None:
        self.closed = True

    def kill(self) -> None:
        self.killed = True

    async def end(self) -> str:
        return self._how


class Nursery:
    """Starts played children, one after the other."""

    def __init__(self) -> None:
        self.children: list[PlayedChild] = []
        self.refuses = 0
        """How many more times no child can be started."""

    async def start(self) -> PlayedChild:
        if self.refuses:
            self.refuses -= 1
            raise OSError(11, "Resource temporarily unavailable")
        self.children.append(PlayedChild())
        return self.children[-1]

    @property
    def last(self) -> PlayedChild:
        return self.children[-1]


class Pipe(Generic[M]):
    """One end of two queues; what goes through is encoded and decoded as between processes."""

    def __init__(
        self, out: "asyncio.Queue[bytes | None]", into: "asyncio.Queue[bytes | None]", incoming: Any
    ) -> None:
        self._out, self._in = out, into
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(incoming)
        self.full = False

    async def receive(self) -> M | None:
        data = await self._in.get()
        return None if data is None else self._decoder.decode(data)

    def send(self, message: object) -> None:
        self._out.put_nowait(msgspec.msgpack.encode(message))

    async def ready(self) -> None:
        pass

    def close(self) -> None:
        self._out.put_nowait(None)


class ChildHere(Generic[M]):
    """What a child process does, in this one. `make` is given the child's end, and makes what takes its messages."""

    def __init__(self, make: Callable[[Pipe[Any]], Any], to_child: Any, from_child: Any) -> None:
        there: asyncio.Queue[bytes | None] = asyncio.Queue()
        back: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.channel: Pipe[M] = Pipe(there, back, from_child)
        self.end_of_child: Pipe[Any] = Pipe(back, there, to_child)
        self.works = make(self.end_of_child)
        self.ended = False
        self._task = asyncio.create_task(serve(self.end_of_child, self.works.take))

    def die(self) -> None:
        """As if it were killed: it takes and tells nothing more."""
        self._task.cancel()
        self.end_of_child.close()

    def kill(self) -> None:
        pass

    async def end(self) -> str:
        with suppress(asyncio.CancelledError):
            await self._task
        await self.works.close()
        self.ended = True
        return "was ended by signal 9"
