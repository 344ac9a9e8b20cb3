"""The third act of the story: each node is moored to a backend, and keeps it; `workers` tells its end."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from moorage.api import manifest
from moorage.api.core_v1 import Pod
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.sources_v1alpha1 import HealthCheck
from moorage.errors import MoorageError
from moorage_lab import verbs, waiting
from moorage_lab.answers import Answer, Frontend, deployment_of, place_of, shares
from moorage_lab.control.deployments import is_ready
from moorage_lab.picture import Outage
from moorage_lab.stage import Stage
from moorage_lab.workers import Workers

REQUESTS = 36
"""How many show which backend each frontend reaches; they leave one of three frontends out once in 700,000 times."""
MAX_ROUNDS = 10
"""How often pods are re-created until one reaches another backend. By chance none of three does once in 8 times."""
SETTLED_REQUESTS = 6
"""After a change: how many answers in a row are as they should be until all are expected to be."""
NODES = 3
NAMESPACE, NAME = "frontend", "backend"

Places = dict[str, str]
"""Node -> the Deployment of the backend that it reaches, or is moored to; empty: not always the same."""


class Recreated(NamedTuple):
    """What became of the clients whose pods were re-created."""

    elsewhere: int
    """How many reached another backend than before."""
    of: int


class Outcome(NamedTuple):
    """How the act ended."""

    without_pods: str
    """The backend Deployment that has no pods now."""
    by_client_ip: Recreated
    by_mooring: Recreated
    outage: Outage | None
    """What the clients of a backend that went away saw; None if they did not all reach another."""


class Act:
    """Begins where the second act ended: with an ExternalService, and one of three backends without pods."""

    def __init__(self, stage: Stage, frontend: Frontend) -> None:
        self._stage, self._frontend = stage, frontend
        self._narrator, self._b = stage.narrator, stage.b
        self._line = stage.line
        self._file = stage.files.external
        self._manifest = [found.object for found in manifest.load([self._file])]

    async def tell(self, gone: str) -> Outcome | None:
        """Play the act; Deployment `gone` has no pods. Returns how it ended; None if it did not get that far."""
        by_client_ip = await self._by_client_ip()
        if not await self._moored():
            return None
        by_mooring = await self._by_mooring()
        await self._one_is_added(gone)
        down, outage = await self._one_goes_down()
        await self._one_is_moved()
        await Workers(self._stage).tell()
        return Outcome(down, by_client_ip, by_mooring, outage)

    async def _by_client_ip(self) -> Recreated:
        """Re-create pods until one reaches another backend than before."""
        self._narrator.step("ClientIP, with a frontend on each of three nodes")
        self._spec("Deployment")["replicas"] = NODES
        await self._stage.edit(self._file, self._manifest, f"replicas: {NODES}, sessionAffinity: ClientIP")
        await waiting.deployments(self._b, [(NAMESPACE, "frontend")])
        before = await self._reached()
        self._narrator.check(
            _are_sticky(before),
            "each frontend always reaches the same backend",
            f"each of {NODES} frontends should always reach the same backend: {_told(before)}",
        )
        self._narrator.step("With ClientIP, their pods are re-created")
        for _ in range(MAX_ROUNDS):
            same = await self._re_create()
            after = await self._reached()
            elsewhere = sum(after.get(node) != backend for node, backend in before.items())
            if elsewhere:
                break
        self._narrator.check(
            elsewhere > 0 and _are_sticky(after) and not same,
            f"the new pods have other addresses, so they are other clients: {elsewhere} of {len(after)} reach "
            "another backend than the pod before them",
            f"some of the new pods should reach another backend, always the same one: {_told(before)}, then "
            f"{_told(after)}; addresses that are the same: {_listed(same)}",
        )
        return Recreated(elsewhere, len(after))

    async def _moored(self) -> bool:
        """Moor each node to a backend. Returns whether that is done."""
        self._narrator.step("Moorings: each node is a client")
        mooring = {"sessionAffinity": "Mooring", "sessionAffinityConfig": {"mooring": {"client": "Node"}}}
        self._spec("ExternalService").update(mooring)
        await self._stage.edit(self._file, self._manifest, "sessionAffinity: Mooring, client: Node")
        moorings = await self._until(lambda found: len(found) == NODES)
        await self._show()
        at = _places(moorings)
        spread = sorted(Counter(at.values()).values()) == [1, 2]
        self._narrator.check(
            spread,
            f"{NODES} clients at 2 backends, 2 to 1: each went where the fewest were",
            f"{NODES} clients should be at 2 backends, 2 to 1: {_told(at)}",
        )
        await self._check_reached(at)
        return spread

    async def _by_mooring(self) -> Recreated:
        self._narrator.step("With moorings, their pods are re-created")
        at = _places(await self._moorings())
        same = await self._re_create()
        after = await self._reached(at)
        elsewhere = sum(after.get(node) != backend for node, backend in at.items())
        self._narrator.check(
            not elsewhere and not same,
            f"the new pods have other addresses, and {len(after)} of {len(after)} reach the same backend as the pod "
            "before them",
            f"with other addresses, the new pods should reach {_told(at)}: they reach {_told(after)}; addresses that "
            f"are the same: {_listed(same)}",
        )
        return Recreated(elsewhere, len(after))

    async def _one_is_added(self, gone: str) -> None:
        self._narrator.step("A third backend: nobody moves")
        before = await self._moorings()
        await self._stage.scale(gone, 1)
        added = f"{gone}-lb"
        ready = await waiting.until(self._ready, lambda names: added in names, 2 * self._stage.effect_seconds)
        await self._show()
        after = await self._moorings()
        self._narrator.check(
            added in ready and after == before,
            f"{added} takes clients now, and no Mooring has changed",
            f"{added} should take clients, and nobody should move: {_listed(ready)} take clients; moorings were "
            f"{_told(_places(before))}, and are {_told(_places(after))}",
        )
        await self._check_reached(_places(before))

    async def _one_goes_down(self) -> tuple[str, Outage | None]:
        """Take away the backend that has two clients. Returns its Deployment, and what these saw."""
        self._narrator.step("The backend of two nodes goes down: only they move")
        before = await self._moorings()
        at = _places(before)
        [(down, _)] = Counter(at.values()).most_common(1)
        theirs = sorted(node for node, backend in at.items() if backend == down)
        pods = {node: await self._pod_on(node) for node in at}
        xsvc = await self._b.get(ExternalService, NAMESPACE, NAME)
        check = xsvc.spec.health_check or HealthCheck()
        bound = check.interval_seconds * check.fall + check.timeout_seconds
        await self._stage.scale(down, 0)
        self._narrator.command(f"curl {self._frontend.url}", "again and again")
        seconds, answers = await self._frontend.until_left(
            down, bound + self._stage.effect_seconds, [pods[node] for node in theirs]
        )
        failed = sum(each.backend is None for each in answers)
        self._narrator.check(
            seconds is not None and seconds <= bound + self._stage.slack,
            f"{_listed(theirs)} went on at others {seconds or 0:.1f} s after the last answer of {down} ({failed} "
            f"requests failed; bound: {bound} s, as before)",
            f"{_listed(theirs)} should go on at others within {bound} s: "
            f"{'they did not' if seconds is None else f'{seconds:.1f} s'}, {failed} requests failed",
        )
        after = await self._moorings()
        await self._show()
        moved = {
            each.spec.client.name: each.status.reason for name, each in after.items() if each != before.get(name)
        }
        stayed = {pods[node]: backend for node, backend in at.items() if node not in theirs}
        lost = [each for each in answers if each.frontend in stayed and _backend(each) != stayed[each.frontend]]
        self._narrator.check(
            moved == dict.fromkeys(theirs, "FailedOver") and not lost,
            f"only {_listed(theirs)} have moved; the third node reached no other backend than its own meanwhile",
            f"only {_listed(theirs)} should have moved: {moved} did; of the third {shares(lost) or 'nothing'}",
        )
        await self._check_reached(_places(after))
        return down, None if seconds is None else Outage(seconds, failed)

    async def _one_is_moved(self) -> None:
        self._narrator.step("A person edits a Mooring: one client moves")
        before = await self._moorings()
        at = _places(before)
        (full, _), *others = Counter(at.values()).most_common(2)
        target = f"{others[0][0] if others else full}-lb"
        name, node = min((name, each.spec.client.name) for name, each in before.items() if place_of(each) == full)
        patch = f'{{"spec":{{"endpoint":"{target}"}}}}'
        self._narrator.command(self._line("patch", "b", f"-n {NAMESPACE} mooring/{name} -p '{patch}'"))
        began = time.monotonic()
        self._narrator.output(
            await verbs.patch(self._b, verbs.resolve("mooring"), name, verbs.parse(patch), namespace=NAMESPACE)
        )
        wanted = {**at, node: target.removesuffix("-lb")}
        pod = await self._pod_on(node)

        def is_there(answers: Sequence[Answer]) -> bool:
            return answers[-1].frontend == pod and _backend(answers[-1]) == wanted[node]

        answers = await self._frontend.until(is_there, self._stage.effect_seconds)
        after = await self._until(lambda found: found[name].status.endpoint == target)
        await self._show()
        moved = {each.spec.client.name: each.status.reason for key, each in after.items() if each != before.get(key)}
        self._narrator.check(
            is_there(answers) and moved == {node: "Moved"} and _places(after) == wanted,
            f"{node} reaches {target} {(answers[-1].at - began) * 1000:.0f} ms after the edit, and nobody else has "
            "moved",
            f"only {node} should have moved, to {target}: {moved} did; moorings are {_told(_places(after))}",
        )
        await self._check_reached(wanted)

    # --- Who reaches whom ----------------------------------------------------------------------------------------

    async def _check_reached(self, wanted: Mapping[str, str]) -> None:
        reached = await self._reached(wanted)
        self._narrator.check(
            reached == wanted,
            f"{REQUESTS} requests, each where the Mooring of its node says: {_told(reached)}",
            f"nodes should reach what they are moored to, {_told(wanted)}: {_told(reached)}",
        )

    async def _reached(self, wanted: Mapping[str, str] | None = None) -> Places:
        """Which backend each frontend reaches, with the requests that show it printed.

        These begin when all frontends are asked and answer, and reach what is `wanted`, or after some seconds.
        """
        nodes = {each.metadata.name: each.spec.node_name or "" for each in await self._pods()}

        def is_settled(answers: Sequence[Answer]) -> bool:
            last = answers[-SETTLED_REQUESTS:]
            return nodes.keys() <= {each.frontend for each in answers} and all(
                each.frontend in nodes and (wanted is None or _backend(each) == wanted.get(nodes[each.frontend]))
                for each in last
            )

        await self._frontend.until(is_settled, self._stage.effect_seconds)
        answers = await self._frontend.ask(REQUESTS, quiet=True)
        self._narrator.command(f"for i in $(seq {REQUESTS}); do curl -s {self._frontend.url}; done | sort -u")
        self._narrator.output("\n".join(sorted({each.text for each in answers})))
        found: dict[str, set[str]] = {node: set() for node in nodes.values()}
        for each in answers:
            found.setdefault(nodes.get(each.frontend or "", "elsewhere"), set()).add(_backend(each))
        return {node: backends.pop() if len(backends) == 1 else "" for node, backends in sorted(found.items())}

    async def _pods(self) -> list[Pod]:
        """Those of the frontend that are not on their way out, by node."""
        found = (await self._b.list(Pod, NAMESPACE, label_selector="app=frontend")).items
        living = [each for each in found if each.metadata.deletion_timestamp is None]
        return sorted(living, key=lambda pod: pod.spec.node_name or "")

    async def _pod_on(self, node: str) -> str:
        found = [each.metadata.name for each in await self._pods() if each.spec.node_name == node]
        if not found:
            raise MoorageError(f"Deployment {NAMESPACE}/frontend: has no pod on {node}; was it deleted meanwhile?")
        return found[0]

    async def _re_create(self) -> set[str]:
        """Delete the frontend's pods, and wait until new ones are ready.

        Returns the addresses that both old and new ones have had.
        """
        old = {each.metadata.name: each.status.pod_ip or "" for each in await self._pods()}
        self._narrator.command(
            self._line("delete", "b", f"-n {NAMESPACE} {' '.join(f'pod/{name}' for name in sorted(old))}")
        )
        for name in sorted(old):
            self._narrator.output(await verbs.delete(self._b, verbs.resolve("pod"), name, namespace=NAMESPACE))

        def are_new(pods: Sequence[Pod]) -> bool:
            return len(pods) == NODES and all(each.metadata.name not in old and is_ready(each) for each in pods)

        new = await waiting.until(self._pods, are_new, 2 * self._stage.effect_seconds)
        if not are_new(new):
            raise MoorageError(f"Deployment {NAMESPACE}/frontend: its new pods are not ready in time")
        return {each.status.pod_ip or "" for each in new}.intersection(old.values())

    # --- The ExternalService and its Moorings --------------------------------------------------------------------

    def _spec(self, kind: str) -> dict[str, Any]:
        [found] = [each for each in self._manifest if each["kind"] == kind]
        spec: dict[str, Any] = found["spec"]
        return spec

    async def _moorings(self) -> dict[str, Mooring]:
        return {each.metadata.name: each for each in (await self._b.list(Mooring, NAMESPACE)).items}

    async def _until(self, holds: Callable[[Mapping[str, Mooring]], bool]) -> dict[str, Mooring]:
        """The Moorings as soon as the condition holds, or after some seconds."""
        return await waiting.until(self._moorings, holds, self._stage.effect_seconds)

    async def _ready(self) -> list[str]:
        xsvc = await self._b.get(ExternalService, NAMESPACE, NAME)
        return [each.name for each in xsvc.status.endpoints or () if each.ready]

    async def _show(self) -> None:
        self._narrator.command(self._line("get", "b", f"-n {NAMESPACE} moorings"))
        self._narrator.table(await verbs.get(self._b, verbs.resolve("moorings"), namespace=NAMESPACE))


def _places(moorings: Mapping[str, Mooring]) -> Places:
    return {each.spec.client.name: place_of(each) for each in moorings.values()}


def _backend(answer: Answer) -> str:
    """The Deployment of the backend that answered; empty for a failure."""
    return deployment_of(answer.backend) if answer.backend else ""


def _are_sticky(reached: Mapping[str, str]) -> bool:
    return len(reached) == NODES and all(reached.values())


def _told(places: Mapping[str, str]) -> str:
    """`node-1 backend2, node-2 backend3`."""
    return ", ".join(f"{node} {backend or 'several, or none'}" for node, backend in sorted(places.items())) or "none"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names)) or "none"
