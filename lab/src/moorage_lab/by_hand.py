"""The first act of the story: two clusters, and what a person does by hand."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from moorage.api import manifest
from moorage.api.core_v1 import Service
from moorage_lab import manifests, verbs, waiting
from moorage_lab.answers import Frontend, check_one_backend, deployment_of, shares
from moorage_lab.narrator import shown
from moorage_lab.picture import Outage
from moorage_lab.stage import Stage

STICKY_REQUESTS = 20
BALANCED_REQUESTS = 40
SHOWN_FAILURES = 5
BROKEN_SECONDS = 3.0
"""How long nobody acts: as long as the health check in the second act may take."""

Object = dict[str, Any]


class Outcome(NamedTuple):
    """How the act ended."""

    frontend: Frontend
    gone: str
    """The backend pod that was pinned, and is gone."""
    outage: Outage
    """What clients saw until a person acted."""


class Act:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._lab, self._narrator, self._a, self._b = stage.lab, stage.narrator, stage.a, stage.b
        self._line = stage.line
        self._file = stage.files.frontend
        self._manifest = [found.object for found in manifest.load([self._file])]

    async def tell(self) -> Outcome | None:
        """Play the act. Returns how it ended; None if it did not get that far. Raises MoorageError if it cannot go
        on."""
        addresses = await self._backends()
        self._frontend = await self._connect(addresses)
        pinned = await self._sticky("Affinity on: always the same backend")
        await self._balanced()
        pinned = await self._sticky("Affinity on again") or pinned
        if pinned is None:
            return None
        began, failed = await self._broken(pinned)
        ended = await self._repaired(addresses, pinned, failed)
        return Outcome(self._frontend, pinned, Outage(ended - began, failed))

    async def _backends(self) -> dict[str, str]:
        """Deploy the backends in cluster A. Returns Service -> public address."""
        self._narrator.step("Cluster A: two backends, each behind a public address")
        loaded = manifest.load([self._stage.files.backend])
        self._narrator.command(self._line("apply", "a", f"-f {shown(self._stage.files.backend)}"))
        self._narrator.output(await verbs.apply(self._a, [found.object for found in loaded]))
        await waiting.deployments(self._a, manifests.deployments(loaded))
        for namespace, service in manifests.load_balancers(loaded):
            await self._lab.relay("a", namespace, service)
        self._narrator.command(self._line("get", "a", "-n backend svc"))
        self._narrator.table(await verbs.get(self._a, verbs.resolve("svc"), namespace="backend"))
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
            f"two public addresses expected, found: {addresses or 'none'}",
        )
        return found

    async def _connect(self, addresses: dict[str, str]) -> Frontend:
        """Deploy the frontend in cluster B, its slice edited to hold the addresses."""
        self._narrator.step("Cluster B: a frontend, and a Service whose endpoints are those addresses")
        self._set_endpoints(list(addresses.values()))
        self._narrator.command(f"edit {shown(self._file)}")
        self._show_slice()
        self._narrator.command(self._line("apply", "b", f"-f {shown(self._file)}"))
        self._narrator.output(await self._apply())
        names = [(found["metadata"]["namespace"], found["metadata"]["name"]) for found in self._of_kind("Deployment")]
        await waiting.deployments(self._b, names)
        relay = await self._lab.relay("b", "frontend", "frontend-lb")
        frontend = Frontend(f"http://localhost:{relay.port}", self._narrator)
        first = await frontend.until_answer(self._stage.effect_seconds)
        self._narrator.check(
            first.backend is not None,
            f"the frontend answers at {frontend.url}, relayed to its load balancer {relay.address}",
            f"no answer of a backend at {frontend.url} in {self._stage.effect_seconds:g} s: {first.text}",
        )
        return frontend

    async def _sticky(self, title: str) -> str | None:
        """Switch affinity on. Returns the backend pod that answered all requests; None if there is none."""
        self._narrator.step(title)
        service = self._service()
        if service["spec"].get("sessionAffinity") != "ClientIP":
            service["spec"]["sessionAffinity"] = "ClientIP"
            await self._stage.edit(self._file, self._manifest, "sessionAffinity: ClientIP")
        answers = await self._frontend.ask(STICKY_REQUESTS)
        return check_one_backend(self._narrator, answers)

    async def _balanced(self) -> None:
        self._narrator.step("Affinity off: balanced")
        del self._service()["spec"]["sessionAffinity"]
        await self._stage.edit(self._file, self._manifest, "sessionAffinity: ClientIP taken out")
        answers = await self._frontend.ask(BALANCED_REQUESTS)
        counts = Counter(answer.backend for answer in answers)
        # 40 fair choices are outside of 8..32 once in 10,000 runs.
        even = len(counts) == 2 and None not in counts and min(counts.values()) >= BALANCED_REQUESTS // 5
        self._narrator.check(
            even,
            f"{len(answers)} requests, balanced: {shares(answers)}",
            f"{len(answers)} requests, not balanced between two backends: {shares(answers)}",
        )

    async def _broken(self, pinned: str) -> tuple[float, int]:
        """Scale the pinned backend's Deployment to 0. Returns when that was, and how many requests failed."""
        self._narrator.step("The pinned backend goes away")
        await self._stage.scale(deployment_of(pinned), 0)
        began = time.monotonic()
        answers = await self._frontend.ask(SHOWN_FAILURES)
        self._narrator.command(f"curl {self._frontend.url}", f"again and again, for {BROKEN_SECONDS:g} s")
        answers += await self._frontend.watch(BROKEN_SECONDS)
        failed = sum(answer.backend is None for answer in answers)
        self._narrator.check(
            failed == len(answers),
            f"all {len(answers)} requests fail, and will until somebody acts: nobody checks the health of endpoints "
            "that were written by hand",
            f"{len(answers)} requests, of which all should fail: {shares(answers)}",
            verdict="down",
        )
        return began, failed

    async def _repaired(self, addresses: dict[str, str], pinned: str, failed: int) -> float:
        """Take its address out of the slice. Returns when the first request after that had been answered."""
        self._narrator.step("Its address is taken out of the slice, by hand")
        gone = addresses[f"{deployment_of(pinned)}-lb"]
        self._set_endpoints([address for address in self._addresses() if address != gone])
        self._narrator.command(f"edit {shown(self._file)}")
        self._show_slice()
        node, kernel = await self._stage.kernel()
        self._narrator.command(self._line("apply", "b", f"-f {shown(self._file)}"))
        started = time.monotonic()
        told = asyncio.create_task(
            kernel.until(lambda table: gone not in table, table=True, seconds=self._stage.effect_seconds)
        )
        await self._apply()
        applied = time.monotonic()
        effect = await told
        answers = await self._frontend.ask(1)
        ended = time.monotonic()
        others = await self._frontend.ask(STICKY_REQUESTS - 1, quiet=True)
        answers += others
        self._narrator.check(
            not {answer.backend for answer in answers} & {None, pinned},
            f"{failed} requests failed before the edit, the next and all others succeeded",
            f"{failed} requests failed before the edit; after it, of {len(answers)}: {shares(answers)}",
        )
        check_one_backend(self._narrator, answers)
        api_server = f"the API server's part: {(applied - started) * 1000:.0f} ms"
        self._narrator.check(
            effect is not None,
            f"{((effect or 0) - started) * 1000:.0f} ms"
            f" from sending the edit to {node}'s kernel having it ({api_server})",
            f"{gone} still in {node}'s kernel {self._stage.effect_seconds:g} s after the edit ({api_server})",
        )
        return ended

    # --- The manifest of the frontend, as a person edits it ------------------------------------------------------

    def _of_kind(self, kind: str) -> list[Object]:
        return [found for found in self._manifest if found["kind"] == kind]

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
        return await verbs.apply(self._b, self._manifest)
