"""The operator's process: waits for the Lease, leads, and gives the Lease back."""

import asyncio
import uuid
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from moorage.cluster.backoff import backoff
from moorage.cluster.client import Client
from moorage.cluster.election import Election, Leadership, process_identity
from moorage.cluster.kubeconfig import Config
from moorage.errors import MoorageError
from moorage.log import get_logger
from moorage.operator.config import Configuration
from moorage.operator.metrics import Metrics
from moorage.operator.startup_taint import AGENTS, StartupTaint
from moorage.operator.term import Makers, Term
from moorage.outside.process import start_sources
from moorage.outside.sources import RemoteSources
from moorage.serving import lag
from moorage.serving.pages import pages
from moorage.serving.server import serving
from moorage.serving.stopping import stopped

log = get_logger("moorage.operator")

ACCOUNT = "moorage-operator"
"""The service account that `deploy/operator` makes."""
_MAKERS = Makers()


class Options(NamedTuple):
    """The options of the command line."""

    configuration: Configuration
    namespace: str | None
    """Namespace of the Lease; None: the namespace that the Config names."""
    identity: str | None
    """This process's name in the Lease, without the suffix that makes it unique; None: the host's name."""
    lease: str | None
    """Name of the Lease; None: lead at once, without a Lease."""
    listen: tuple[str | None, int]
    startup_taint: str | None = None
    """The key of the taint that is taken from nodes whose agent is ready; None: nodes are left alone."""
    agents: str = AGENTS
    """The namespace of the node agents."""


class Process:
    """One operator process, which leads or waits to lead."""

    ASK_SECONDS = 10.0
    """How often to ask an API server that answered whether it still does."""

    def __init__(self, client: Client, options: Options, makers: Makers = _MAKERS) -> None:
        self._client = client
        self._options = options
        self._makers = makers
        self._metrics = Metrics()
        self._unreached: str | None = "the API server has not answered yet"
        self._term: Term | None = None
        self.identity = f"{options.identity}_{uuid.uuid4()}" if options.identity else process_identity()

    def missing(self) -> str | None:
        """Why this process is not ready; None if it is. A process that waits for the Lease is ready, too."""
        if self._unreached is None and self._term is not None and not self._term.synced:
            return "leading, but not everything has been read yet"
        return self._unreached

    async def run(self) -> None:
        """Run until cancelled, and then give the Lease back. Raises MoorageError if it cannot listen."""
        async with serving(self._options.listen, pages(self._metrics, self.missing)) as port:
            log.info("the operator is up", identity=self.identity, port=port)
            asking = asyncio.create_task(self._ask())
            try:
                with lag.measured(self._metrics.loop_lag_seconds.observe):
                    await self._lead_in_turn()
            finally:
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking

    async def _lead_in_turn(self) -> None:
        if self._options.lease is None:
            await self._lead(None)
            return
        namespace = self._options.namespace or self._client.config.namespace
        await Election(self._client, namespace, self._options.lease, self.identity).run(self._lead)

    async def _lead(self, leadership: Leadership | None) -> None:
        self._metrics.leader.set(1)
        check = leadership.check if leadership else lambda: None
        self._term = Term(
            self._client,
            self._options.configuration,
            self._metrics,
            self._makers,
            identity=self.identity,
            check=check,
            may_write=leadership.valid if leadership else lambda: True,
        )
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._term.run())
                if taint := self._options.startup_taint:
                    tasks.create_task(StartupTaint(self._client, taint, self._options.agents, check).run())
        finally:
            self._term = None
            self._metrics.rest()

    async def _ask(self) -> None:
        """Keep checking whether the API server answers."""
        failures = 0
        while True:
            try:
                await self._client.raw("GET", "/version")
            except MoorageError as error:
                failures += 1
                self._unreached = str(error)
                await asyncio.sleep(backoff(failures, 0.0, longest=self.ASK_SECONDS))
            else:
                failures, self._unreached = 0, None
                await asyncio.sleep(self.ASK_SECONDS)


async def run(config: Config, options: Options) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    async with Client(config) as client:
        makers = _MAKERS
        if options.namespace:
            account = f"{options.namespace}:{ACCOUNT}"
            makers = Makers(partial(RemoteSources, start_sources, account=account))
        if await stopped(Process(client, options, makers).run()):
            log.info("stopping; Services and their endpoints stay as they are")
