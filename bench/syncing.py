"""How long a node takes to carry ten thousand Services, from the API's objects to the kernel, and what it costs.

`measure` runs each step in a process of its own, in one network namespace, as an agent that is started again would:

1. *first*: nothing is in the kernel yet; then endpoints change, one at a time.
2. *unchanged*: a new process finds everything as it should be.
3. *changed*: a new process finds that one Service changed while nobody watched.

Objects come from files that hold what the API server would send. Run by `python -m bench`; prints JSON.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from bench import BUILD, states
from bench.namespaces import BenchError
from moorage.api.core_v1 import Service
from moorage.api.discovery_v1 import SERVICE_NAME_LABEL, EndpointSlice
from moorage.dataplane import netlink
from moorage.dataplane.capabilities import probe
from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.desired import Desired
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.nft import KernelNft
from moorage.dataplane.services import Scope, carried
from moorage.dataplane.sync import Synced, Synchronizer

Step = Literal["first", "unchanged", "changed"]
STEPS: tuple[Step, ...] = ("first", "unchanged", "changed")
STEP_SECONDS = 600
"""Longest that a step may take."""


class Options(msgspec.Struct):
    services: int
    endpoints: int
    changes: int


class Result(msgspec.Struct):
    """Of one step. Seconds and KiB."""

    seconds: float
    """Of `first`: until the kernel had it all, objects still to be decoded at its beginning. Of restarts: since the
    process was started."""
    transactions: int
    python_kib: int
    nft_kib: int
    """The largest nft."""
    python_cpu: float
    """Seconds of a processor."""
    programs_cpu: float
    """The same, of the programs that it ran: nft and conntrack."""
    until_kernel: list[float] = []
    """One endpoint's change: from the EndpointSlice as it arrives to the end of the last transaction."""
    until_swept: list[float] = []
    """The same, to the end of the sweep for sessions and flows."""


class _TimedNft(KernelNft):
    """Notes when the last transaction ended."""

    ended = 0.0

    async def run(self, script: str) -> None:
        await super().run(script)
        self.ended = time.perf_counter()


class _Node:
    """What `moorage.node` does with what it reads from the API, without the API."""

    def __init__(self, nft: KernelNft, synchronizer: Synchronizer) -> None:
        self._nft = nft
        self._synchronizer = synchronizer
        self._scope = Scope(node="bench")
        self._services: dict[str, Service] = {}
        self._desired = Desired()

    async def start(self, services: bytes, slices: bytes) -> Synced:
        self._services = {
            f"{each.metadata.namespace}/{each.metadata.name}": each
            for each in msgspec.json.decode(services, type=list[Service])
        }
        slices_of: dict[str, list[EndpointSlice]] = {}
        for each in msgspec.json.decode(slices, type=list[EndpointSlice]):
            slices_of.setdefault(_owner(each), []).append(each)
        changed: set[ServiceAddress] = set()
        for name, service in self._services.items():
            changed |= self._desired.put(name, carried(service, slices_of.get(name, []), self._scope).ports)
        return await self._synchronizer.sync(self._desired.state, changed)

    async def change(self, slice_: bytes) -> Synced:
        decoded = msgspec.json.decode(slice_, type=EndpointSlice)
        name = _owner(decoded)
        changed = self._desired.put(name, carried(self._services[name], [decoded], self._scope).ports)
        return await self._synchronizer.sync(self._desired.state, changed)


def _owner(slice_: EndpointSlice) -> str:
    return f"{slice_.metadata.namespace}/{(slice_.metadata.labels or {})[SERVICE_NAME_LABEL]}"


class Files(NamedTuple):
    """Where the objects are, and the peak memory of each nft."""

    services: Path
    slices: Path
    changed_slices: Path
    peaks: Path


def write(directory: Path, options: Options) -> Files:
    """The objects of the API, in files."""
    files = Files(*(directory / each for each in Files._fields))
    files.services.write_bytes(msgspec.json.encode(list(states.service_objects(options.services))))
    addresses = [states.endpoint_addresses(n, options.endpoints) for n in range(options.services)]
    for path in (files.slices, files.changed_slices):
        path.write_bytes(msgspec.json.encode([states.slice_object(n, each) for n, each in enumerate(addresses)]))
        addresses[len(addresses) // 2] = addresses[len(addresses) // 2][1:]
    return files


def changes(options: Options) -> list[bytes]:
    """EndpointSlices that change one after another: of each Service one endpoint goes, and later it comes back."""
    made = []
    for number in range(options.changes):
        service = number // 2 * 97 % options.services
        addresses = states.endpoint_addresses(service, options.endpoints)
        made.append(
            msgspec.json.encode(states.slice_object(service, addresses[1:] if number % 2 == 0 else addresses))
        )
    return made


async def step(which: Step, options: Options, files: Files) -> Result:
    """One step, in this process."""
    nft = _TimedNft([str(BUILD / "peak"), str(files.peaks)], netlink.connect)
    node = _Node(nft, Synchronizer(nft, KernelConntrack(), await probe(nft)))
    slices = files.changed_slices if which == "changed" else files.slices
    began = time.perf_counter()
    synced = await node.start(files.services.read_bytes(), slices.read_bytes())
    took, cpu = time.perf_counter() - began, os.times()
    result = Result(
        seconds=took,
        transactions=synced.transactions,
        python_kib=_peak_of_this_process(),
        nft_kib=max(map(int, files.peaks.read_text().split()), default=0),
        python_cpu=cpu.user + cpu.system,
        programs_cpu=cpu.children_user + cpu.children_system,
    )
    for each in changes(options) if which == "first" else ():
        began = time.perf_counter()
        await node.change(each)
        result.until_swept.append(time.perf_counter() - began)
        result.until_kernel.append(nft.ended - began)
    return result


def _peak_of_this_process() -> int:
    """KiB. Not from getrusage: that counts what the parent had when it forked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def measure(options: Options) -> dict[str, Result]:
    """All steps, each in a process of its own."""
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as name:
        files = write(Path(name), options)
        for which in STEPS:
            files.peaks.write_text("")
            print(f"{options.services} services: {which}", file=sys.stderr, flush=True)
            arguments = [which, msgspec.json.encode(options).decode(), name]
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-m", "bench.syncing", *arguments],
                stdout=subprocess.PIPE,
                timeout=STEP_SECONDS,
                check=False,
            )
            took = time.perf_counter() - began
            if done.returncode != 0:
                raise BenchError(f"{options.services} services: step {which} failed; the lines above say why")
            results[which] = msgspec.json.decode(done.stdout, type=Result)
            if which != "first":
                results[which].seconds = took
    return results


def main(arguments: list[str]) -> None:
    if len(arguments) == 3:
        which, options, directory = arguments
        files = Files(*(Path(directory) / each for each in Files._fields))
        wanted = msgspec.convert(which, Step)
        result: object = asyncio.run(step(wanted, msgspec.json.decode(options, type=Options), files))
    else:
        try:
            result = measure(msgspec.json.decode(arguments[0], type=Options))
        except (BenchError, subprocess.TimeoutExpired) as error:
            sys.exit(f"moorage bench: {error}")
    sys.stdout.write(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main(sys.argv[1:])
