"""A kubelet's runtime in memory: no processes, but all that the kubelet can see of them."""

import asyncio
import signal

from moorage.api.core_v1 import Container, Pod
from moorage.errors import MoorageError
from moorage_lab.topology import NodePlan


class FakeProcess:
    """Ends on SIGTERM with 0, or, where `stubborn`, only on SIGKILL."""

    def __init__(self, *, stubborn: bool) -> None:
        self.stubborn = stubborn
        self.signals: list[int] = []
        self._exit: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def running(self) -> bool:
        return not self._exit.done()

    def die(self, status: int) -> None:
        if self.running:
            self._exit.set_result(status)

    async def wait(self) -> int:
        return await asyncio.shield(self._exit)

    def send(self, number: int) -> None:
        self.signals.append(number)
        if number == signal.SIGKILL:
            self.die(128 + number)
        elif not self.stubborn:
            self.die(0)


class FakeRuntime:
    """`kubelet.Runtime`. A pod answers while its process runs and its name is not in `silent`."""

    def __init__(self) -> None:
        self.stubborn = False
        self.silent: set[str] = set()
        self.failures = 0
        """How many of the next calls of `create` fail."""
        self.addresses: dict[str, list[str]] = {}
        """Pod's name -> its addresses, while its network is there."""
        self.processes: dict[str, list[FakeProcess]] = {}
        """Pod's name -> what was started, the newest last."""

    async def create(self, pod: Pod, node: NodePlan, addresses: list[str]) -> None:
        if self.failures:
            self.failures -= 1
            raise MoorageError("no more interfaces")
        assert pod.metadata.name not in self.addresses
        self.addresses[pod.metadata.name] = addresses

    async def start(self, pod: Pod, node: NodePlan, container: Container) -> FakeProcess:
        process = FakeProcess(stubborn=self.stubborn)
        self.processes.setdefault(pod.metadata.name, []).append(process)
        return process

    async def remove(self, pod: Pod, node: NodePlan) -> None:
        assert not any(process.running for process in self.processes.get(pod.metadata.name, ()))
        self.addresses.pop(pod.metadata.name, None)

    async def answers(self, address: str, port: int) -> bool:
        return any(
            address in addresses and name not in self.silent and self.newest(name).running
            for name, addresses in self.addresses.items()
            if name in self.processes
        )

    def newest(self, name: str) -> FakeProcess:
        return self.processes[name][-1]
