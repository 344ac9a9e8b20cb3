"""The second act of the story: an ExternalService finds the addresses, checks them and keeps them right."""

import io
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from moorage.api import manifest
from moorage.api.moorage_v1alpha1 import EndpointStatus, ExternalService
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage_lab import manifests, verbs, waiting
from moorage_lab.answers import Frontend, check_one_backend, deployment_of, shares
from moorage_lab.narrator import shown
from moorage_lab.picture import Outage
from moorage_lab.stage import Stage
from moorage_lab.state import inside_kubeconfig

REQUESTS = 20
BALANCED_REQUESTS = 30
SECRET = "cluster-a"
NAMESPACE, NAME = "frontend", "backend"


class Outcome(NamedTuple):
    """How the act ended."""

    without_pods: str
    """The backend Deployment that has no pods now."""
    outage: Outage | None
    """What clients saw until their connections went elsewhere; None if they never did."""


class Act:
    """Begins where the first act ended: with a Service made by hand, and one of two backends without pods."""

    def __init__(self, stage: Stage, frontend: Frontend) -> None:
        self._stage, self._frontend = stage, frontend
        self._narrator, self._a, self._b = stage.narrator, stage.a, stage.b
        self._line = stage.line
        self._file = stage.files.external
        self._manifest = [found.object for found in manifest.load([self._file])]

    async def tell(self, gone: str) -> Outcome | None:
        """Play the act; Deployment `gone` has no pods. Returns how it ended; None if it did not get that far."""
        await self._nothing_is_taken_over(gone)
        await self._found()
        pinned = check_one_backend(self._narrator, await self._frontend.ask(REQUESTS))
        if pinned is None:
            return None
        outage = await self._one_goes_down(pinned)
        await self._one_is_added()
        return Outcome(deployment_of(pinned), outage)

    async def _nothing_is_taken_over(self, gone: str) -> None:
        self._narrator.step("Cluster B: an ExternalService that follows cluster A")
        await self._stage.scale(gone, 1)
        kubeconfig = self._line("kubeconfig", "a", f"--secret {SECRET} -n {NAMESPACE}")
        self._narrator.command(f"{kubeconfig} | {self._line('apply', 'b', '-f -')}")
        text = inside_kubeconfig(self._stage.lab.directory, "a").read_text()
        secret = io.StringIO(manifests.secret(SECRET, NAMESPACE, text))
        self._narrator.output(await verbs.apply(self._b, [found.object for found in manifest.load([secret])]))
        self._narrator.command(self._line("apply", "b", f"-f {shown(self._file)}"))
        self._narrator.output(await verbs.apply(self._b, self._manifest))
        ready = await self._until(
            lambda xsvc: _condition(xsvc, "Ready")[0] == "False" and _condition(xsvc, "Healthy")[0] == "True"
        )
        await self._show()
        status, reason, message = _condition(ready, "Ready")
        self._narrator.output(f"{reason}: {message}")
        self._narrator.check(
            (status, reason) == ("False", "NameTaken"),
            "the Service made by hand is not taken over, and the condition says what to do",
            f"the condition Ready should be False for the Service made by hand: {status} {reason} {message}",
        )

    async def _found(self) -> None:
        self._narrator.step("The Service and the slice made by hand go")
        self._narrator.command(self._line("delete", "b", f"-n {NAMESPACE} service/{NAME} endpointslice/{NAME}"))
        for kind in ("service", "endpointslice"):
            self._narrator.output(await verbs.delete(self._b, verbs.resolve(kind), NAME, namespace=NAMESPACE))
        started = time.monotonic()
        xsvc = await self._until(lambda xsvc: _condition(xsvc, "Ready")[0] == "True" and len(_ready(xsvc)) == 2)
        seconds = time.monotonic() - started
        await self._show()
        found = [f"{each.name} at {each.address}" for each in _ready(xsvc)]
        self._narrator.check(
            len(found) == 2,
            f"{' and '.join(found)}: found in cluster A, healthy, and in the slice after {seconds:.1f} s",
            f"two endpoints should be ready after {seconds:.1f} s: {found} of {xsvc.status}",
        )
        typed = re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", self._file.read_text())
        self._narrator.check(
            not typed,
            f"no address is written in {shown(self._file)}",
            f"addresses are written in {shown(self._file)}: {typed}",
        )
        first = await self._frontend.until_answer(self._stage.effect_seconds)
        self._narrator.check(
            first.backend is not None,
            f"{self._frontend.url} answers as before",
            f"no answer of a backend at {self._frontend.url} in {self._stage.effect_seconds:g} s: {first.text}",
        )

    async def _one_goes_down(self, pinned: str) -> Outage | None:
        """Its clients go on at the other one without anybody doing anything. Returns what they saw until then."""
        self._narrator.step("The pinned backend goes down")
        check = (await self._get()).spec.health_check or HealthCheck()
        bound = check.interval_seconds * check.fall + check.timeout_seconds
        await self._stage.scale(deployment_of(pinned), 0)
        self._narrator.command(f"curl {self._frontend.url}", "again and again")
        seconds, answers = await self._frontend.until_left(deployment_of(pinned), bound + self._stage.effect_seconds)
        failed = sum(each.backend is None for each in answers)
        rule = f"{check.interval_seconds} s x {check.fall} + {check.timeout_seconds} s"
        self._narrator.check(
            seconds is not None and seconds <= bound + self._stage.slack,
            f"its clients went on at the other one {seconds or 0:.1f} s after its last answer ({failed} requests "
            f"failed; bound: interval x fall + timeout = {rule} = {bound} s)",
            f"its clients should go on at the other one within {bound} s ({rule}): "
            f"{'they did not' if seconds is None else f'{seconds:.1f} s'}, {failed} requests failed",
        )
        await self._show()
        answers = await self._frontend.ask(REQUESTS)
        other = check_one_backend(self._narrator, answers)
        self._narrator.check(other != pinned, f"none by {pinned}, which is gone", f"by {pinned}, which is gone")
        return None if seconds is None else Outage(seconds, failed)

    async def _one_is_added(self) -> None:
        self._narrator.step("A third backend is added in cluster A")
        third = self._third()
        self._narrator.command("edit backend3.yml", "what backend2 consists of, as backend3")
        self._narrator.command(self._line("apply", "a", "-f backend3.yml"))
        self._narrator.output(await verbs.apply(self._a, [found.object for found in third]))
        await waiting.deployments(self._a, manifests.deployments(third))
        address = (await self._stage.lab.relay("a", "backend", "backend3-lb")).address
        xsvc = await self._until(lambda xsvc: address in {each.address for each in _ready(xsvc)})
        # So that the kernel's next change is the next edit.
        _, kernel = await self._stage.kernel()
        await kernel.until(lambda table: address in table, table=True, seconds=self._stage.effect_seconds)
        await self._show()
        names = [each.name for each in _ready(xsvc)]
        self._narrator.check(
            "backend3-lb" in names,
            f"backend3-lb at {address} is found, healthy, and takes connections",
            f"backend3-lb at {address} is not among what takes connections: {names}",
        )
        [spec] = [each["spec"] for each in self._manifest if each["kind"] == "ExternalService"]
        spec["sessionAffinity"] = "None"
        await self._stage.edit(self._file, self._manifest, "sessionAffinity: None")
        answers = await self._frontend.ask(BALANCED_REQUESTS)
        deployments = {deployment_of(each.backend) for each in answers if each.backend}
        self._narrator.check(
            len(deployments) == 2 and "backend3" in deployments and all(each.backend for each in answers),
            f"{len(answers)} requests, balanced: {shares(answers)}",
            f"{len(answers)} requests, not balanced between the two that are up: {shares(answers)}",
        )

    # --- The ExternalService -------------------------------------------------------------------------------------

    async def _get(self) -> ExternalService:
        return await self._b.get(ExternalService, NAMESPACE, NAME)

    async def _until(self, holds: Callable[[ExternalService], bool]) -> ExternalService:
        """The ExternalService as soon as the condition holds, or after some seconds."""
        return await waiting.until(self._get, holds, 2 * self._stage.effect_seconds)

    async def _show(self) -> None:
        self._narrator.command(self._line("get", "b", f"-n {NAMESPACE} xsvc"))
        self._narrator.table(await verbs.get(self._b, verbs.resolve("xsvc"), namespace=NAMESPACE))

    def _third(self) -> list[manifest.Manifest]:
        """The objects of backend2, copied as backend3."""
        text = self._stage.files.backend.read_text()
        parts = [part for part in text.split("\n---\n") if "backend2" in part]
        return manifest.load([io.StringIO("\n---\n".join(parts).replace("backend2", "backend3"))])


def _ready(xsvc: ExternalService) -> list[EndpointStatus]:
    return [each for each in xsvc.status.endpoints or () if each.ready]


def _condition(xsvc: ExternalService, type: str) -> tuple[str, str, str]:
    """Its status, reason and message."""
    found = next((each for each in xsvc.status.conditions or () if each.type == type), None)
    return (found.status, found.reason, found.message) if found else ("", "", "")
