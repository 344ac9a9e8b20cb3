"""The node agent's process: alone on its node, programs the kernel, and answers probes."""

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, closing
from typing import NamedTuple

from moorage.cluster.client import Client
from moorage.cluster.kubeconfig import Config
from moorage.dataplane.capabilities import probe
from moorage.dataplane.conntrack import KernelConntrack
from moorage.dataplane.nft import KernelNft
from moorage.dataplane.presence import Presence
from moorage.dataplane.removal import REMOVAL
from moorage.dataplane.services import Scope
from moorage.dataplane.sync import Synchronizer
from moorage.dataplane.waking import KernelWaker, may_wake
from moorage.log import get_logger
from moorage.node.agent import UNNOTICED, Agent
from moorage.node.alone import alone
from moorage.node.metrics import Metrics
from moorage.serving.pages import pages
from moorage.serving.server import serving
from moorage.serving.stopping import stopped

log = get_logger("moorage.node")

MAX_BEHIND_SECONDS = 300.0
"""How long every sync may fail until `/healthz` says so. The kubelet then starts the agent anew: that helps where its
own memory or a program that hangs is at fault, and costs one more list of all it watches where nothing helps."""


class Options(NamedTuple):
    """The options of the command line."""

    scope: Scope
    listen: tuple[str | None, int] | None
    """None: answer no probes."""


def ailing(agent: Agent) -> str | None:
    """Why the process should be started anew; None if it should not.

    While the API server does not answer there is nothing to sync: the kernel keeps its state, and so does this
    process. A new one would have to read everything first.
    """
    behind = agent.behind_seconds
    if behind < MAX_BEHIND_SECONDS:
        return None
    return f"the kernel could not be brought up to date for {behind:.0f} seconds; the log says why"


def missing(agent: Agent) -> str | None:
    """Why the agent is not ready; None if it is."""
    return None if agent.synced else "the kernel has not been brought up to date yet"


def refresh(metrics: Metrics, agent: Agent) -> None:
    """Set what is told of an agent's present state."""
    metrics.synced.set(agent.synced)
    metrics.behind_seconds.set(agent.behind_seconds)
    metrics.ports.set(agent.ports)
    metrics.moorings.set(agent.moorings)
    metrics.refused_ports.set(agent.refused)
    metrics.warnings.set(len(agent.warnings))
    for family, sessions in agent.crowding.sessions.items():
        metrics.learned.labels(f"IPv{family}").set(sessions)
        metrics.crowded.labels(f"IPv{family}").set(family in agent.crowding.crowded)


async def run(config: Config, options: Options) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises MoorageError if it cannot start."""
    async with AsyncExitStack() as stack:
        stack.enter_context(alone())
        nft = KernelNft()
        capabilities = await probe(nft)
        for warning in capabilities.warnings:
            log.warning(warning)
        client = await stack.enter_async_context(Client(config))
        if not may_wake():
            log.info(
                "without the capability NET_RAW, clients that only read are not told when their endpoint is gone"
            )
        synchronizer = Synchronizer(nft, KernelConntrack(), capabilities, KernelWaker())
        deleted = _deletions(stack)
        metrics = Metrics()
        metrics.found(capabilities)
        agent = Agent(client, synchronizer, options.scope, metrics, deleted)
        metrics.refresh = lambda: refresh(metrics, agent)
        if options.listen is not None:
            answers = pages(metrics, lambda: missing(agent), lambda: ailing(agent))
            await stack.enter_async_context(serving(options.listen, answers))
        if await stopped(agent.run()):
            log.info("stopping; the kernel keeps what was programmed")


def _deletions(stack: AsyncExitStack) -> Callable[[], Awaitable[None]] | None:
    """What returns when somebody has deleted the table; None if the kernel does not tell."""
    try:
        return stack.enter_context(closing(Presence())).until_deleted
    except OSError as error:
        log.warning(UNNOTICED, error=str(error))
        return None


async def remove() -> None:
    """Take all that agents have programmed from this node's kernel. Raises MoorageError while one runs here."""
    with alone():
        await KernelNft().run(REMOVAL)
    log.info("nothing of Moorage is left in this kernel; connections that are open go on")
