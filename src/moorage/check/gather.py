"""Gathers the facts about a cluster. It reads, and asks who may do what; it changes nothing."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from moorage.api.contract import CARRIED_SELECTOR
from moorage.api.coordination_v1 import Lease
from moorage.api.core_v1 import Pod as CorePod
from moorage.api.core_v1 import Service
from moorage.api.crds import custom_kinds
from moorage.api.kinds import Kind, kind_of
from moorage.api.meta import Object
from moorage.check import objects, rights
from moorage.check.asking import REQUEST_SECONDS, Asker
from moorage.check.facts import (
    AGENT_PORT,
    Agent,
    Cilium,
    Definition,
    Facts,
    Known,
    KubeProxy,
    Leader,
    Names,
    Pod,
    Policy,
    Unread,
    Workload,
)
from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config

ALL_SECONDS = 60.0
"""For all of it."""
MAX_AGENTS_ASKED = 50
"""Those that are not ready come first."""
MAX_PODS = 5000
"""Of one workload: as many as the nodes that Kubernetes is made for."""
LOOK_SECONDS = 0.5
"""Between two looks at the Lease."""
MAX_LEASE_SECONDS = 20.0
"""How long it is looked at. A leader renews it every 2 to 2.4 seconds, and has lost it after 15."""
POLICY = "moorage-moorings"
_SYSTEM = "kube-system"
_COMPONENT = "app.kubernetes.io/name=moorage,app.kubernetes.io/component={}"

_DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", Object)
_DAEMON_SET = Kind("apps", "v1", "DaemonSet", "daemonsets", Object)
_CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", Object)
_DEFINITION = Kind(
    "apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", Object, namespaced=False
)
_POLICY = Kind(
    *("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", Object),
    namespaced=False,
)
_BINDING = _POLICY._replace(kind=f"{_POLICY.kind}Binding", plural="validatingadmissionpolicybindings")


async def gather(config: Config, names: Names, *, before: bool | None) -> Facts:
    """Everything that `findings.judge` reads, in at most ALL_SECONDS.

    `before`: only what matters before an installation; None: find out whether there is one. Raises MoorageError if
    the configuration cannot be used.
    """
    async with Client(config, timeout=REQUEST_SECONDS) as client:
        ask = Asker(client, asyncio.get_running_loop().time() + ALL_SECONDS)
        version = await ask.read(objects.Version, "/version")
        if isinstance(version, Unread):
            return Facts(names=names, version=version)
        if version is None:
            return Facts(names=names, version=Unread("it has no /version, as the API servers of Kubernetes have"))
        return await _Gathering(ask, names).facts(version.git_version, before)


class _Gathering(NamedTuple):
    ask: Asker
    names: Names

    async def facts(self, version: str, before: bool | None) -> Facts:
        names = self.names
        async with asyncio.TaskGroup() as tasks:
            groups = tasks.create_task(self._groups())
            definitions = {kind.resource: tasks.create_task(self._definition(kind)) for kind in custom_kinds()}
            operator = tasks.create_task(self._workload(_DEPLOYMENT, "operator", names.operator))
            leader = tasks.create_task(self._leader())
            agents = tasks.create_task(self._workload(_DAEMON_SET, "agent", names.agents))
            carried = tasks.create_task(self._carried())
            policy = tasks.create_task(self._policy())
            kube_proxy = tasks.create_task(self._kube_proxy())
            cilium = tasks.create_task(self._cilium())
        facts = Facts(
            names=names,
            version=version,
            groups=groups.result(),
            definitions={name: each.result() for name, each in definitions.items()},
            operator=operator.result(),
            leader=leader.result(),
            agents=agents.result(),
            carried=carried.result(),
            policy=policy.result(),
            kube_proxy=kube_proxy.result(),
            cilium=cilium.result(),
        )
        if before is None:
            before = not facts.installed
        if before:
            return replace(facts, before=True, missing={"you": await self._missing(rights.of_installer())})
        return replace(facts, before=False, missing=await self._accounts(facts), answers=await self._answers(facts))

    async def _groups(self) -> Known[frozenset[str]]:
        found = await self.ask.read(objects.Groups, "/apis")
        if found is None or isinstance(found, Unread):
            return found or Unread("it does not say which APIs it has")
        return frozenset(version.group_version for group in found.groups for version in group.versions)

    async def _definition(self, kind: Kind) -> Known[Definition | None]:
        found = await self.ask.object(objects.DefinitionObject, _DEFINITION, None, kind.resource)
        return objects.definition(found) if isinstance(found, objects.DefinitionObject) else found

    async def _workload(self, kind: Kind, component: str, namespace: str) -> Known[Workload | None]:
        found = await self.ask.object(objects.Workload, kind, namespace, f"moorage-{component}")
        if not isinstance(found, objects.Workload):
            return found
        pods = await self._pods(namespace, _COMPONENT.format(component))
        return objects.workload(found, pods, of_nodes=kind is _DAEMON_SET)

    async def _pods(self, namespace: str, labels: str) -> Known[tuple[Pod, ...]]:
        found = await self.ask.list(objects.Pods, kind_of(CorePod), namespace, labels, MAX_PODS)
        if found is None or isinstance(found, Unread):
            return found or ()
        return tuple(map(objects.pod, found.items))

    async def _leader(self) -> Known[Leader | None]:
        """The Lease, watched until it is renewed or its holder must have lost it."""
        first = await self._lease()
        if not isinstance(first, Lease):
            return first
        now = asyncio.get_running_loop().time
        end, last = now() + MAX_LEASE_SECONDS, first
        while last.spec == first.spec and first.spec.holder_identity and now() < end:
            await asyncio.sleep(LOOK_SECONDS)
            found = await self._lease()
            if isinstance(found, Lease):
                last = found
        spec = last.spec
        return Leader(spec.holder_identity or "", spec.acquire_time or "", last.spec != first.spec)

    async def _lease(self) -> Known[Lease | None]:
        return await self.ask.object(Lease, kind_of(Lease), self.names.operator, rights.LEASE)

    async def _carried(self) -> Known[bool]:
        found = await self.ask.list(objects.Items, kind_of(Service), None, CARRIED_SELECTOR, 1)
        return found if isinstance(found, Unread) else found is not None and bool(found.items)

    async def _policy(self) -> Known[Policy | None]:
        found, binding = await asyncio.gather(
            self.ask.object(objects.PolicyObject, _POLICY, None, POLICY),
            self.ask.object(objects.PolicyObject, _BINDING, None, POLICY),
        )
        if isinstance(binding, Unread):
            return binding
        return objects.policy(found, binding, POLICY) if isinstance(found, objects.PolicyObject) else found

    async def _kube_proxy(self) -> Known[KubeProxy | None]:
        workload = await self.ask.object(objects.Workload, _DAEMON_SET, _SYSTEM, "kube-proxy")
        if isinstance(workload, Unread):
            return workload
        # Google has it in pods that kubelets start by themselves.
        pods = await self.ask.list(objects.Items, kind_of(CorePod), _SYSTEM, "component=kube-proxy", 1)
        names = ("kube-proxy", "kube-proxy-config")  # kubeadm's name, and Amazon's
        configs = [await self.ask.object(objects.ConfigMap, _CONFIG_MAP, _SYSTEM, name) for name in names]
        return objects.kube_proxy(
            workload,
            [each for each in configs if isinstance(each, objects.ConfigMap)],
            isinstance(pods, objects.Items) and bool(pods.items),
        )

    async def _cilium(self) -> Known[Cilium | None]:
        workload = await self.ask.object(objects.Workload, _DAEMON_SET, _SYSTEM, "cilium")
        if not isinstance(workload, objects.Workload):
            return workload
        config = await self.ask.object(objects.ConfigMap, _CONFIG_MAP, _SYSTEM, "cilium-config")
        return config if isinstance(config, Unread) else objects.cilium(config)

    # --- What to ask depends on what was found ---------------------------------------------------------------------

    async def _accounts(self, facts: Facts) -> dict[str, Known[tuple[str, ...] | None]]:
        names, asked = self.names, {}
        if facts.operator:
            asked["operator"] = self._missing(rights.of_operator(names.operator), names.operator, "moorage-operator")
        if facts.agents:
            asked["agent"] = self._missing(rights.of_agent(), names.agents, "moorage-agent")
        return dict(zip(asked, await asyncio.gather(*asked.values()), strict=True))

    async def _missing(
        self, needed: Sequence[rights.Right], namespace: str = "", account: str = ""
    ) -> Known[tuple[str, ...] | None]:
        """Which of these rights an account lacks; without one, whoever asks."""
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
        user = {"user": f"system:serviceaccount:{namespace}:{account}", "groups": groups} if account else None
        return await self.ask.lacking(needed, user)

    async def _answers(self, facts: Facts) -> tuple[Agent, ...]:
        if not isinstance(facts.agents, Workload) or isinstance(facts.agents.pods, Unread):
            return ()
        running = sorted((pod for pod in facts.agents.pods if pod.running), key=lambda pod: (pod.ready, pod.node))
        return tuple(await asyncio.gather(*map(self._answer, running[:MAX_AGENTS_ASKED])))

    async def _answer(self, pod: Pod) -> Agent:
        """What an agent says, through the API server's proxy: nothing else reaches all nodes from anywhere."""
        at = f"{kind_of(CorePod).path(self.names.agents, f'{pod.name}:{AGENT_PORT}')}/proxy"
        ready = "" if pod.ready else await self.ask.text(f"{at}/readyz")
        text = await self.ask.text(f"{at}/metrics")
        why = ready.why if isinstance(ready, Unread) else ""
        try:
            return Agent(pod.node, why, text if isinstance(text, Unread) else objects.told(text))
        except ValueError as error:
            return Agent(pod.node, why, Unread(str(error)))
