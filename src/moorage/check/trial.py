"""Tries what the service proxy of a cluster does: makes Services, servers and clients there, and deletes them again.

Some service proxies ignore the hints of EndpointSlices and say nothing of it, so that only behaviour tells: Cilium,
for one, also beside kube-proxy (cilium/cilium issues 44060 and 23837).
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from moorage.api.core_v1 import Node, Pod, Service
from moorage.api.kinds import kind_of
from moorage.check import manifests, objects, rights
from moorage.check.asking import REQUEST_SECONDS, Asker
from moorage.check.facts import Facts, Heard, Known, Left, Outcome, Tried, Unread
from moorage.check.manifests import LABEL, Manifest, Place
from moorage.check.objects import PodObject
from moorage.check.plan import Plan, planned
from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config
from moorage.cluster.paths import creation_path, manifest_kind, manifest_path
from moorage.serving.stopping import stopped

LAB = "+moorage"
"""How the versions of the lab's API servers end."""
START_SECONDS = 60.0
"""For servers to start."""
CLIENT_SECONDS = START_SECONDS + manifests.MAX_ASK_SECONDS
"""For clients to start, and to ask."""
CLEAR_SECONDS = 30.0
"""For all that is deleted at the end."""
LOOK_SECONDS = 0.5
"""Between two looks at pods."""
MAX_NODES_READ = 5000
_ALL_SECONDS = START_SECONDS + CLIENT_SECONDS + 30.0
_NO_ACCOUNT_YET = "service account"
"""In what an API server says of a pod in a namespace that is so new that it has no ServiceAccount."""

T = TypeVar("T")


async def attempt(config: Config, facts: Facts, *, image: str = "", namespace: str = "") -> Outcome:
    """Find out by behaviour whether hints of EndpointSlices are obeyed: in about 15 seconds, and at most 4 minutes.

    `facts`: where there are agents, and which image is installed. `image`: another one, that has python3.
    `namespace`: one that exists; without it a new one is made. What was made is deleted in any case, also after
    SIGTERM and SIGINT, but not waited for. Raises MoorageError if the configuration cannot be used.
    """
    if isinstance(facts.version, str) and facts.version.endswith(LAB):
        return Outcome(
            Unread("the lab starts pods again whenever they end; only a cluster with kubelets can be tried")
        )
    name = f"moorage-check-{secrets.token_hex(4)}"
    place = Place(name, namespace or name, image or facts.image)
    async with Client(config, timeout=REQUEST_SECONDS) as client:
        now = asyncio.get_running_loop().time
        ask = Asker(client, now() + _ALL_SECONDS)
        trial = _Trial(ask, place, not namespace, facts.nodes_with_agents)
        try:
            interrupted = await stopped(trial.run())
        finally:
            # A second signal finds `run` at its end, and stops nothing of this.
            left = await _clear(Asker(client, now() + CLEAR_SECONDS), place, trial.made)
    return Outcome(trial.tried, left, interrupted)


async def _clear(ask: Asker, place: Place, made: Iterable[Manifest]) -> Left | None:
    failed = [each for each in await asyncio.gather(*(ask.delete(manifest_path(one)) for one in made)) if each]
    if not failed:
        return None
    if place.name == place.namespace:
        return Left(f"kubectl delete namespace {place.namespace}", failed[0].why)
    of_it = f"pods,services,endpointslices -l {LABEL}={place.name}"
    return Left(f"kubectl -n {place.namespace} delete {of_it}", failed[0].why)


class _CannotError(Exception):
    """Why a trial cannot go on."""


class _Trial:
    def __init__(self, ask: Asker, place: Place, is_new: bool, agents: frozenset[str]) -> None:
        self._ask, self._place, self._is_new, self._agents = ask, place, is_new, agents
        self._now = asyncio.get_running_loop().time
        self.tried: Known[Tried] = Unread("interrupted")
        self.made: list[Manifest] = []
        """What has to be deleted at the end: a new namespace with all that is in it, or each object."""

    async def run(self) -> None:
        """Sets `tried`."""
        try:
            self.tried = await self._run()
        except _CannotError as error:
            self.tried = Unread(str(error))

    async def _run(self) -> Tried:
        place = self._place
        await self._need_rights()
        nodes = _known(await self._ask.list(objects.Nodes, kind_of(Node), None, "", MAX_NODES_READ))
        plan = planned(nodes.items, self._agents) if nodes is not None else None
        if plan is None:
            raise _CannotError("no node is Ready and takes pods that tolerate no taint")
        if self._is_new:
            await self._create(manifests.namespace(place))
        made = [await self._create(manifests.service(place, way)) for way in plan.ways]
        ips = (msgspec.convert(each, Service).spec.every_cluster_ip[0] for each in made)
        services = dict(zip(plan.ways, ips, strict=True))
        addresses = await self._servers(plan)
        for way in plan.ways:
            await self._create(manifests.endpoint_slice(place, plan, way, addresses))
        return Tried(plan, await self._clients(plan, services))

    async def _need_rights(self) -> None:
        lacks = _known(await self._ask.lacking(rights.of_trial(self._place.namespace, is_new=self._is_new)))
        if lacks:  # None: the API server does not say, and may let all in
            raise _CannotError(f"you may not {', '.join(lacks)}")

    async def _servers(self, plan: Plan) -> dict[str, str]:
        """Each server -> its address, once all are ready."""
        pods = {name: manifests.server(self._place, plan, name) for name in plan.at}
        found = await self._pods(pods.values(), _is_ready, START_SECONDS)
        for name, pod in zip(pods, found, strict=True):
            if not _is_ready(pod):
                raise _CannotError(f"a pod on {plan.at[name]} is not ready: {_trouble(pod)}")
        return {name: pod.status.pod_ip for name, pod in zip(pods, found, strict=True)}

    async def _clients(self, plan: Plan, services: Mapping[str, str]) -> dict[str, Known[Mapping[str, Heard]]]:
        """Each node -> what its client says, once all have, or their time is over."""
        pods = [manifests.client(self._place, plan, node, services) for node in plan.nodes]
        found = await self._pods(pods, _has_ended, CLIENT_SECONDS)
        return dict(zip(plan.nodes, map(_heard, found), strict=True))

    async def _pods(
        self, pods: Iterable[Manifest], are_there: Callable[[PodObject], bool], seconds: float
    ) -> list[PodObject]:
        """Make these pods; they come as soon as all are there, or as they are after so many seconds."""
        names = [each["metadata"]["name"] for each in await asyncio.gather(*map(self._create, pods))]
        end, labels = self._now() + seconds, f"{LABEL}={self._place.name}"
        while True:
            found = _known(await self._ask.list(objects.Pods, kind_of(Pod), self._place.namespace, labels, 100))
            by_name = {each.metadata.name: each for each in found.items} if found is not None else {}
            these = [by_name.get(name, PodObject()) for name in names]
            if all(map(are_there, these)) or self._now() > end:
                return these
            await asyncio.sleep(LOOK_SECONDS)

    async def _create(self, manifest: Manifest) -> dict[str, Any]:
        """The object as it is then."""
        # First, as it may be there although no answer comes.
        if not self._is_new or not self.made:
            self.made.append(manifest)
        path = creation_path(manifest_kind(manifest), manifest["metadata"].get("namespace"))
        end = self._now() + START_SECONDS
        while True:
            found = await self._ask.create(path, manifest)
            if not (isinstance(found, Unread) and _NO_ACCOUNT_YET in found.why and self._now() < end):
                return _known(found)
            await asyncio.sleep(LOOK_SECONDS)


def _known(found: Known[T]) -> T:
    if isinstance(found, Unread):
        raise _CannotError(found.why)
    return found


def _is_ready(pod: PodObject) -> bool:
    return bool(objects.pod(pod).ready and pod.status.pod_ip)


def _has_ended(pod: PodObject) -> bool:
    return any(each.state.terminated is not None for each in pod.status.container_statuses)


def _heard(pod: PodObject) -> Known[Mapping[str, Heard]]:
    ended = (each.state.terminated for each in pod.status.container_statuses if each.state.terminated is not None)
    try:
        return msgspec.json.decode(next((each.message for each in ended), ""), type=dict[str, Heard])
    except msgspec.DecodeError:
        return Unread(_trouble(pod))


def _trouble(pod: PodObject) -> str:
    return objects.pod(pod).trouble or "it has not come so far in time"
