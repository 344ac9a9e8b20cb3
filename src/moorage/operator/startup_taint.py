"""Takes the startup taint from nodes whose agent is ready. Agents may not change nodes.

A node is made with the taint, by whoever makes nodes, and pods wait until it is gone.
"""

import asyncio
from collections.abc import Callable

from moorage.api.core_v1 import Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus
from moorage.api.meta import ObjectKey
from moorage.api.slim import identity
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.cluster.queue import Queue
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change, Index
from moorage.log import get_logger

AGENTS = "moorage-agent"
"""The namespace that `deploy/agent` makes."""
LABELS = "app.kubernetes.io/name=moorage,app.kubernetes.io/component=agent"
"""Of the pods there."""

log = get_logger("moorage.operator.startup_taint")


def is_ready(agent: Pod) -> bool:
    """Whether the kernel of its node has been programmed."""
    ready = any(
        each.get("type") == "Ready" and each.get("status") == "True" for each in agent.status.conditions or ()
    )
    return ready and agent.metadata.deletion_timestamp is None


def others(node: Node, key: str) -> list[dict[str, object]] | None:
    """The node's taints but for those of this key; None: it has none of this key."""
    taints = node.spec.taints or []
    kept = [each for each in taints if each.get("key") != key]
    return kept if len(kept) < len(taints) else None


BY_NODE: Index[Pod, str] = Index(lambda pod: (pod.spec.node_name,) if pod.spec.node_name else ())


class StartupTaint:
    """`run` follows nodes and agents until cancelled.

    The taint goes whenever it is there and the agent is ready, also when somebody puts it on later: else pods would
    wait for ever. `check` is called right before each write, and raises if this process may no longer write.
    """

    def __init__(self, client: Client, key: str, namespace: str, check: Callable[[], None]) -> None:
        self._client, self._key, self._check = client, key, check
        self._queue: Queue[str] = Queue()
        """The names of nodes to look at."""
        self._nodes = Reflector(client, Node, on_change=self._node_changed, transform=_tainted)
        self._agents = Reflector(
            client,
            Pod,
            namespace,
            label_selector=LABELS,
            on_change=self._agent_changed,
            transform=_standing,
            indexes=[BY_NODE],
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._nodes.run())
            tasks.create_task(self._agents.run())
            tasks.create_task(self._queue.run(self._look))

    async def _look(self, name: str) -> None:
        node = self._nodes.store.get(ObjectKey("", name))
        taints = others(node, self._key) if node else None
        if node is None or taints is None or not any(map(is_ready, self._agents.store.by(BY_NODE, name))):
            return
        self._check()
        # A list is replaced as a whole: only in the version that was read.
        version = {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version}
        try:
            await self._client.patch(Node, None, name, {"metadata": version, "spec": {"taints": taints or None}})
        except ApiError as error:
            if error.status not in (404, 409):
                raise
        else:
            log.info("the node's agent is ready: the startup taint is gone", node=name, taint=self._key)

    def _node_changed(self, change: Change[Node]) -> None:
        self._queue.add(change.key.name)

    def _agent_changed(self, change: Change[Pod]) -> None:
        for name in BY_NODE.touched(change):
            self._queue.add(name)


def _tainted(node: Node) -> Node:
    """The Node without all but its taints."""
    return Node(metadata=identity(node.metadata), spec=NodeSpec(taints=node.spec.taints), status=NodeStatus())


def _standing(pod: Pod) -> Pod:
    """The pod without all that does not tell where it is and whether it is ready."""
    spec = PodSpec(node_name=pod.spec.node_name)
    return Pod(metadata=pod.metadata, spec=spec, status=PodStatus(conditions=pod.status.conditions))
