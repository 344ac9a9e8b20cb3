"""The demo: the story of sticky connections between two clusters, told while it happens, every step checked."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import Any, NamedTuple

import aiohttp
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

import moorage
from moorage.api import manifest
from moorage.api.core_v1 import Pod, Service
from moorage.cluster import verbs
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage.lab import enter, manifests, waiting
from moorage.lab.kernel import Kernel
from moorage.lab.outside import Lab

CLUSTERS = {"a": 1, "b": 2}
STICKY_REQUESTS = 20
BALANCED_REQUESTS = 40
FAILING_REQUESTS = 5
SHOWN = 5
"""Of many answers, so many are printed, or more: until two backends are seen."""
REQUEST_SECONDS = 5.0
EFFECT_SECONDS = 5.0

Object = dict[str, Any]


class Answer(NamedTuple):
    """What one request brought."""

    text: str
    """The frontend's line, or why there was none."""
    backend: str | None
    """The backend pod that answered, None for a failure."""


class Narrator:
    """Prints the story and keeps account of the checks."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started = time.monotonic()
        self.passed = 0
        self.failed = 0
        self._ended = False

    def step(self, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(title, "bold"), align="left", style="cyan"))

    def command(self, line: str) -> None:
        self._console.print(Text(f"$ {line}", "bold cyan"), soft_wrap=True)

    def output(self, text: str) -> None:
        self._console.print(Text(indent(text, "  ")), soft_wrap=True)

    def check(self, holds: bool, text: str, seen: str) -> None:
        """One line: `text` where it holds, what was `seen` in its place where it does not."""
        if holds:
            self.passed += 1
        else:
            self.failed += 1
        verdict = Text(" pass ", "bold white on green") if holds else Text(" FAIL ", "bold white on red")
        self._console.print(verdict.append(f" {text if holds else seen}", "default on default"), soft_wrap=True)

    @property
    def holds(self) -> bool:
        """Whether the story came to its end and all its checks hold."""
        return self._ended and self.failed == 0

    def end(self) -> None:
        self._ended = True
        seconds = time.monotonic() - self._started
        self._console.print()
        total = self.passed + self.failed
        style = "bold red" if self.failed else "bold green"
        self._console.print(Text(f"{self.passed} of {total} checks passed, in {seconds:.1f} s", style))


def files() -> tuple[Path, Path]:
    """The demo's manifests, of backend and frontend: installed with the package, or in the checkout it runs from.

    Raises MoorageError where they are neither.
    """
    package = Path(moorage.__file__).parent
    for directory in (package / "deploy" / "demo", package.parents[1] / "deploy" / "demo"):
        backend, frontend = directory / "k8s-backend.yml", directory / "k8s-frontend.yml"
        if backend.exists() and frontend.exists():
            return backend, frontend
    raise MoorageError(f"deploy/demo/k8s-backend.yml: not found near {package}; run the demo in a clone of moorage")


async def tell(lab: Lab, narrator: Narrator) -> str | None:
    """The whole story, in a lab of the clusters `CLUSTERS`, which is left as the story ends.

    Returns the backend Deployment that has no pods then, None if the story did not come so far. Raises MoorageError
    where it cannot go on.
    """
    async with lab.client("a") as a, lab.client("b") as b:
        return await Story(lab, narrator, a, b).tell()


class Story:
    def __init__(self, lab: Lab, narrator: Narrator, a: Client, b: Client) -> None:
        self._lab, self._narrator, self._a, self._b = lab, narrator, a, b
        self._files = files()
        self._frontend = [found.object for found in manifest.load([self._files[1]])]
        self._url = ""
        self._lab_option = "" if lab.state.name == "demo" else f" --name {lab.state.name}"

    async def tell(self) -> str | None:
        addresses = await self._backends()
        await self._connect(addresses)
        pinned = await self._sticky("Affinity on: always the same backend")
        await self._balanced()
        pinned = await self._sticky("Affinity on again") or pinned
        if pinned is not None:
            failed = await self._broken(pinned)
            await self._repaired(addresses, pinned, failed)
        self._narrator.end()
        return deployment_of(pinned) if pinned is not None else None

    async def _backends(self) -> dict[str, str]:
        """Deploy the backends in cluster A. Returns Service -> public address."""
        self._narrator.step("Cluster A: two backends, each behind a public address")
        loaded = manifest.load([self._files[0]])
        self._narrator.command(self._line("apply", "a", f"-f {_shown(self._files[0])}"))
        self._narrator.output(await verbs.apply(self._a, [found.object for found in loaded]))
        await waiting.deployments(self._a, manifests.deployments(loaded))
        for namespace, service in manifests.load_balancers(loaded):
            await self._lab.relay("a", namespace, service)
        self._narrator.command(self._line("get", "a", "-n backend svc"))
        self._narrator.output(await verbs.get(self._a, verbs.resolve("svc"), namespace="backend"))
        found = {
            service.metadata.name: ingress.ip
            for service in (await self._a.list(Service, "backend")).items
            if service.status.load_balancer
            for ingress in service.status.load_balancer.ingress or []
            if ingress.ip and ":" not in ingress.ip
        }
        addresses = " and ".join(found.values())
        self._narrator.check(
            len(set(found.values())) == 2,
            f"two public addresses found: {addresses}",
            f"two public addresses wanted, found: {addresses or 'none'}",
        )
        return found

    async def _connect(self, addresses: dict[str, str]) -> None:
        """Deploy the frontend in cluster B, its slice edited to hold the addresses."""
        self._narrator.step("Cluster B: a frontend, and a Service whose endpoints are those addresses")
        self._set_endpoints(list(addresses.values()))
        self._narrator.command(f"edit {_shown(self._files[1])}")
        self._show_slice()
        self._narrator.command(self._line("apply", "b", f"-f {_shown(self._files[1])}"))
        self._narrator.output(await self._apply())
        names = [(found["metadata"]["namespace"], found["metadata"]["name"]) for found in self._of_kind("Deployment")]
        await waiting.deployments(self._b, names)
        relay = await self._lab.relay("b", "frontend", "frontend-lb")
        self._url = f"http://localhost:{relay.port}"
        first = await self._until_answer()
        self._narrator.check(
            first.backend is not None,
            f"the frontend answers at {self._url}, relayed to its load balancer {relay.address}",
            f"no answer of a backend at {self._url} in {EFFECT_SECONDS:g} s: {first.text}",
        )

    async def _sticky(self, title: str) -> str | None:
        """Switch affinity on. Returns the backend pod that answered all requests, None if there was none such."""
        self._narrator.step(title)
        service = self._service()
        if service["spec"].get("sessionAffinity") != "ClientIP":
            service["spec"]["sessionAffinity"] = "ClientIP"
            await self._apply_and_wait("sessionAffinity: ClientIP")
        answers = await self._ask(STICKY_REQUESTS)
        return check_one_backend(self._narrator, answers)

    async def _balanced(self) -> None:
        self._narrator.step("Affinity off: balanced")
        del self._service()["spec"]["sessionAffinity"]
        await self._apply_and_wait("sessionAffinity: ClientIP taken out")
        answers = await self._ask(BALANCED_REQUESTS)
        counts = Counter(answer.backend for answer in answers)
        # 40 fair choices fall outside of 8..32 once in 10,000 runs.
        even = len(counts) == 2 and None not in counts and min(counts.values()) >= BALANCED_REQUESTS // 5
        shares = _shares(answers)
        self._narrator.check(
            even,
            f"{len(answers)} requests, balanced: {shares}",
            f"{len(answers)} requests, not balanced between two backends: {shares}",
        )

    async def _broken(self, pinned: str) -> int:
        """Scale the pinned backend's Deployment to 0. Returns how many requests failed."""
        self._narrator.step("The pinned backend goes away")
        deployment = deployment_of(pinned)
        self._narrator.command(self._line("scale", "a", f"-n backend deployment/{deployment} --replicas 0"))
        kind = verbs.resolve("deployment")
        self._narrator.output(await verbs.scale(self._a, kind, deployment, 0, namespace="backend"))
        await waiting.deployments(self._a, [("backend", deployment)])
        answers = await self._ask(FAILING_REQUESTS)
        failed = sum(answer.backend is None for answer in answers)
        self._narrator.check(
            failed == len(answers),
            f"{failed} of {len(answers)} requests failed: nobody checks the health of endpoints written by hand",
            f"{len(answers)} requests, of which all should fail: {_shares(answers)}",
        )
        return failed

    async def _repaired(self, addresses: dict[str, str], pinned: str, failed: int) -> None:
        """Take its address out of the slice: the next request succeeds."""
        self._narrator.step("Its address is taken out of the slice, by hand")
        gone = addresses[f"{deployment_of(pinned)}-lb"]
        self._set_endpoints([address for address in self._addresses() if address != gone])
        self._narrator.command(f"edit {_shown(self._files[1])}")
        self._show_slice()
        node, kernel = await self._kernel()
        self._narrator.command(self._line("apply", "b", f"-f {_shown(self._files[1])}"))
        started = time.monotonic()
        told = asyncio.create_task(kernel.until(lambda table: gone not in table, table=True, seconds=EFFECT_SECONDS))
        await self._apply()
        applied = time.monotonic()
        effect = await told
        answers = await self._ask(1)
        others = await self._ask(STICKY_REQUESTS - 1, quiet=True)
        answers += others
        self._narrator.check(
            not {answer.backend for answer in answers} & {None, pinned},
            f"{failed} requests failed before the edit, the next and all others succeeded",
            f"{failed} requests failed before the edit; after it, of {len(answers)}: {_shares(answers)}",
        )
        check_one_backend(self._narrator, answers)
        api_server = f"the API server's part: {(applied - started) * 1000:.0f} ms"
        self._narrator.check(
            effect is not None,
            f"{((effect or 0) - started) * 1000:.0f} ms"
            f" from sending the edit to {node}'s kernel having it ({api_server})",
            f"{gone} still in {node}'s kernel {EFFECT_SECONDS:g} s after the edit ({api_server})",
        )

    # --- Requests ------------------------------------------------------------------------------------------------

    async def _ask(self, count: int, *, quiet: bool = False) -> list[Answer]:
        """So many requests, one after another, each on a connection of its own."""
        if not quiet:
            self._narrator.command(f"curl {self._url}" + (f"   # {count} times" if count > 1 else ""))
        connector = aiohttp.TCPConnector(force_close=True)
        timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            answers = [await _get(session, self._url) for _ in range(count)]
        if not quiet:
            shown = how_many_to_show([answer.backend for answer in answers])
            more = [f"... and {count - shown} more"] if count > shown else []
            self._narrator.output("\n".join([*(answer.text for answer in answers[:shown]), *more]))
        return answers

    async def _until_answer(self) -> Answer:
        """The first answer of a backend, or the last failure: rules and names follow the API a moment later."""
        end = time.monotonic() + EFFECT_SECONDS
        while True:
            [answer] = await self._ask(1, quiet=True)
            if answer.backend is not None or time.monotonic() > end:
                return answer
            await asyncio.sleep(waiting.POLL_SECONDS)

    # --- The manifest of the frontend, as a person edits it ------------------------------------------------------

    def _of_kind(self, kind: str) -> list[Object]:
        return [found for found in self._frontend if found["kind"] == kind]

    def _service(self) -> Object:
        [service] = [found for found in self._of_kind("Service") if found["metadata"]["name"] == "backend"]
        return service

    def _addresses(self) -> list[str]:
        [slice_] = self._of_kind("EndpointSlice")
        return [address for endpoint in slice_["endpoints"] for address in endpoint["addresses"]]

    def _set_endpoints(self, addresses: Sequence[str]) -> None:
        [slice_] = self._of_kind("EndpointSlice")
        slice_["endpoints"] = [{"addresses": [address]} for address in addresses]

    def _show_slice(self) -> None:
        self._narrator.output(
            "\n".join(["endpoints:", *(f'- addresses: ["{address}"]' for address in self._addresses())])
        )

    async def _apply(self) -> str:
        return await verbs.apply(self._b, self._frontend)

    async def _apply_and_wait(self, edit: str) -> None:
        """Apply the edited manifest; wait until the kernel of the frontend's node has taken it up."""
        self._narrator.command(f"edit {_shown(self._files[1])}   # {edit}")
        self._narrator.command(self._line("apply", "b", f"-f {_shown(self._files[1])}"))
        _, kernel = await self._kernel()
        before = await kernel.digest()
        await self._apply()
        if await kernel.until(lambda digest: digest != before, seconds=EFFECT_SECONDS) is None:
            raise MoorageError(f"{edit}: has not reached the kernel after {EFFECT_SECONDS:g} s")

    async def _kernel(self) -> tuple[str, Kernel]:
        """The frontend's node, and its kernel."""
        nodes = [pod.spec.node_name for pod in (await self._b.list(Pod, "frontend")).items if pod.spec.node_name]
        prefix = enter.on_node(self._lab.state, "b", nodes[0]) if nodes else None
        if prefix is None:
            raise MoorageError("Deployment frontend/frontend: has no pod on a node; was it deleted meanwhile?")
        return nodes[0], Kernel(prefix)

    def _line(self, verb: str, cluster: str, rest: str) -> str:
        return f"moorage lab {verb}{self._lab_option} --cluster {cluster} {rest}"


async def _get(session: aiohttp.ClientSession, url: str) -> Answer:
    try:
        async with session.get(url) as response:
            text = (await response.text()).strip()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return Answer(f"no answer: {' '.join(str(error).split()) or type(error).__name__}", None)
    found = re.search(r" -> backend\[([^]]+)]$", text)
    return Answer(text, found[1] if found and response.status == 200 else None)


def deployment_of(pod: str) -> str:
    """The Deployment that a pod's name tells: `backend1` of `backend1-54467975d9-sp2h2`."""
    return pod.rsplit("-", 2)[0]


def check_one_backend(narrator: Narrator, answers: Sequence[Answer]) -> str | None:
    """Check that one backend answered all of them. Returns it, None if there was none such."""
    backends = {answer.backend for answer in answers}
    backend = backends.pop() if len(backends) == 1 else None
    narrator.check(
        backend is not None,
        f"{len(answers)} requests, all answered by {backend}",
        f"{len(answers)} requests, not all answered by one backend: {_shares(answers)}",
    )
    return backend


def how_many_to_show(backends: Sequence[str | None]) -> int:
    """How many of these answers to print: `SHOWN`, or more if it takes more until a second outcome is seen."""
    second = next((i for i, backend in enumerate(backends) if backend != backends[0]), 0)
    return min(max(SHOWN, second + 1), len(backends))


def _shares(answers: Sequence[Answer]) -> str:
    """`backend1-... 19, backend2-... 21`, and what the first failure was, if there is one."""
    counts = Counter(answer.backend for answer in answers)
    shares = [f"{backend} {count}" for backend, count in sorted(counts.items(), key=str) if backend]
    if None in counts:
        shares.append(f"failed {counts[None]} ({next(answer.text for answer in answers if answer.backend is None)})")
    return ", ".join(shares)


def _shown(file: Path) -> str:
    """The file as a person in the current directory would write it."""
    try:
        return str(file.relative_to(Path.cwd()))
    except ValueError:
        return str(file)
