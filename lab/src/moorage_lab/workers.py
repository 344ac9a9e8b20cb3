"""The end of the third act: each pod is a client, with a connection that stays open, and node agents lead it."""

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from moorage.api import manifest
from moorage.api.contract import GROUP_LABEL
from moorage.api.core_v1 import Pod
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.errors import MoorageError
from moorage_lab import manifests, verbs, waiting
from moorage_lab.answers import deployment_of, place_of
from moorage_lab.control.deployments import is_ready
from moorage_lab.enter import PodPlace
from moorage_lab.narrator import shown
from moorage_lab.stage import Stage

NAMESPACE = "frontend"
OF_GROUP = f"{GROUP_LABEL}=queue"
MOVING, EDITED = "worker-0", "worker-1"
"""The pod that moves to another node, and the one whose Mooring a person edits."""
POLL_SECONDS = 0.005


class Workers:
    """Begins with two backends that are up, and in cluster B with the Secret for cluster A."""

    def __init__(self, stage: Stage) -> None:
        self._stage, self._narrator, self._b = stage, stage.narrator, stage.b
        self._line = stage.line

    async def tell(self) -> None:
        """Raises MoorageError if it cannot go on."""
        if await self._moored():
            await self._one_changes_nodes()
            await self._one_is_edited()

    async def _moored(self) -> bool:
        """Returns whether both pods are connected to what they are moored to."""
        self._narrator.step("Each pod is a client, with an open connection")
        file = self._stage.files.workers
        loaded = manifest.load([file])
        self._narrator.command(self._line("apply", "b", f"-f {shown(file)}"))
        self._narrator.output(await verbs.apply(self._b, [found.object for found in loaded]))
        await waiting.stateful_sets(self._b, manifests.stateful_sets(loaded))
        moorings = await waiting.until(self._moorings, lambda found: len(found) == 2, self._stage.effect_seconds)
        at = {pod: place_of(each) for pod, each in moorings.items()}
        reached = {}
        for pod in (MOVING, EDITED):
            is_there = _is_at(at.get(pod, ""))
            reached[pod] = await self._said(await self._pod(pod), is_there, 2 * self._stage.effect_seconds)
        self._narrator.command(self._line("get", "b", f"-n {NAMESPACE} moorings -l {OF_GROUP}"))
        self._narrator.table(
            await verbs.get(self._b, verbs.resolve("moorings"), namespace=NAMESPACE, label_selector=OF_GROUP)
        )
        for pod, lines in reached.items():
            self._narrator.command(f"{self._line('logs', 'b', pod)} | tail -n 1")
            self._narrator.output("\n".join(lines[-1:]))
        holds = all(_backend(lines) == at.get(pod) for pod, lines in reached.items())
        self._narrator.check(
            holds,
            f"each pod has one open connection, to the backend that its Mooring says: {_told(at)}",
            f"pods should be connected to what they are moored to, {_told(at)}: "
            f"{_told({pod: _backend(lines) for pod, lines in reached.items()})}",
        )
        return holds

    async def _one_changes_nodes(self) -> None:
        self._narrator.step(f"{MOVING} moves to another node")
        before = await self._pod(MOVING)
        node, place = before.spec.node_name or "", _backend(self._lines(before))
        self._narrator.command(self._line("cordon", "b", node))
        self._narrator.output(await verbs.cordon(self._b, node))
        self._narrator.command(self._line("delete", "b", f"-n {NAMESPACE} pod/{MOVING}"))
        began = time.monotonic()
        self._narrator.output(await verbs.delete(self._b, verbs.resolve("pod"), MOVING, namespace=NAMESPACE))
        after = await self._pod(MOVING, but=before.metadata.uid)
        lines = await self._said(after, bool, self._stage.effect_seconds)
        seconds = time.monotonic() - began
        self._narrator.command(self._line("logs", "b", MOVING))
        self._narrator.output("\n".join(lines))
        self._narrator.command(self._line("uncordon", "b", node))
        self._narrator.output(await verbs.cordon(self._b, node, on=False))
        self._narrator.check(
            after.spec.node_name != node
            and after.status.pod_ip != before.status.pod_ip
            and _backend(lines[:1]) == place != "",
            f"on {after.spec.node_name}, with another address, its first connection went to {place}, as before "
            f"({seconds:.1f} s after it was deleted on {node})",
            f"on another node than {node}, with another address than {before.status.pod_ip}, its first connection "
            f"should go to {place}: on {after.spec.node_name}, with {after.status.pod_ip}: {lines}",
        )

    async def _one_is_edited(self) -> None:
        self._narrator.step("A person edits a Mooring: an open connection ends")
        moorings = await self._moorings()
        edited, moving = await self._pod(EDITED), await self._pod(MOVING)
        here, there = place_of(moorings[EDITED]), place_of(moorings[MOVING])
        before, of_other = self._lines(edited), self._lines(moving)
        name, patch = moorings[EDITED].metadata.name, f'{{"spec":{{"endpoint":"{there}-lb"}}}}'
        self._narrator.command(self._line("patch", "b", f"-n {NAMESPACE} mooring/{name} -p '{patch}'"))
        began = time.monotonic()
        patched = await verbs.patch(self._b, verbs.resolve("mooring"), name, verbs.parse(patch), namespace=NAMESPACE)
        lines = await self._said(edited, _is_at(there), self._stage.effect_seconds)
        seconds = time.monotonic() - began
        self._narrator.output(patched)
        self._narrator.command(f"{self._line('logs', 'b', EDITED)} | tail -n 2")
        self._narrator.output("\n".join(lines[-2:]))
        lost, *rest = lines[len(before) :] or [""]
        self._narrator.check(
            lost.endswith("reset by peer") and _backend(rest) == there != here and self._lines(moving) == of_other,
            f"its open connection was reset, and it went on at {there} {seconds * 1000:.0f} ms after the edit; "
            f"{MOVING} kept its own",
            f"its connection to {here} should be reset, and it should go on at {there}, while {MOVING} keeps its "
            f"own: {lines[len(before) :]}; of {MOVING} {self._lines(moving)[len(of_other) :]}",
        )

    # --- Pods, and what they say --------------------------------------------------------------------------------

    async def _pod(self, name: str, but: str | None = None) -> Pod:
        """The pod of this name, but not the one with this uid, once it is ready. Raises MoorageError after some
        seconds."""

        async def ask() -> list[Pod]:
            found = (await self._b.list(Pod, NAMESPACE, label_selector="app=worker")).items
            return [each for each in found if each.metadata.name == name and each.metadata.uid != but]

        found = await waiting.until(ask, lambda pods: any(map(is_ready, pods)), 2 * self._stage.effect_seconds)
        if not any(map(is_ready, found)):
            raise MoorageError(f"StatefulSet {NAMESPACE}/worker: its pod {name} is not ready in time")
        return found[0]

    async def _said(self, pod: Pod, holds: Callable[[Sequence[str]], bool], seconds: float) -> list[str]:
        """What the pod has printed, once that holds, or after these seconds."""

        async def ask() -> list[str]:
            return self._lines(pod)

        return await waiting.until(ask, holds, seconds, POLL_SECONDS)

    def _lines(self, pod: Pod) -> list[str]:
        state = self._stage.lab.state
        log = PodPlace(state.chosen("b"), pod).log(None)
        try:
            return Path(f"/proc/{state.init_pid}/root{log}").read_text().splitlines()
        except FileNotFoundError:
            return []

    async def _moorings(self) -> dict[str, Mooring]:
        """Of the pods, by their names."""
        found = (await self._b.list(Mooring, NAMESPACE, label_selector=OF_GROUP)).items
        return {each.spec.client.name: each for each in found if each.status.endpoint}


def _backend(lines: Sequence[str]) -> str:
    """The Deployment of the backend that a worker is connected to by the last line that it has printed."""
    found = re.fullmatch(r"worker\[\S+] -> backend\[(\S+)]", lines[-1]) if lines else None
    return deployment_of(found[1]) if found else ""


def _is_at(place: str) -> Callable[[Sequence[str]], bool]:
    return lambda lines: _backend(lines) == place


def _told(at: dict[str, str]) -> str:
    """`worker-0 backend1, worker-1 backend2`."""
    return ", ".join(f"{pod} {place or 'none'}" for pod, place in sorted(at.items())) or "none"
