"""A program that leads in turn and writes while it leads: `python -m e2e.harness.candidate KUBECONFIG NAMESPACE ME`.

It writes its name into a label of the EndpointSlice `shared`, over and over, as the operator would: after asking
whether it still leads, and with uid and resourceVersion. SIGTERM ends it gracefully.
"""

import asyncio
import itertools
import signal
import sys

from moorage import log
from moorage.api.discovery_v1 import EndpointSlice
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.cluster.election import Election, Leadership, NotLeadingError
from moorage.errors import MoorageError

EVERY = 0.2
"""Seconds between two writes."""


async def main(path: str, namespace: str, me: str) -> None:
    async with Client(kubeconfig.load(path)) as client:

        async def lead(leadership: Leadership) -> None:
            numbers = itertools.count()
            while True:
                old = await client.get(EndpointSlice, namespace, "shared")
                metadata = {"uid": old.metadata.uid, "resourceVersion": old.metadata.resource_version}
                # A number, or it would be no change.
                body = {"metadata": {**metadata, "labels": {"writer": me, "number": str(next(numbers))}}}
                try:
                    leadership.check()
                    await client.patch(EndpointSlice, namespace, "shared", body)
                except NotLeadingError:
                    raise
                except MoorageError as error:
                    log.get_logger("candidate").warning("not written", error=str(error))
                await asyncio.sleep(EVERY)

        running = asyncio.ensure_future(Election(client, namespace, "candidates", me).run(lead))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
        try:
            await running
        except asyncio.CancelledError:
            log.get_logger("candidate").info("stopped")


if __name__ == "__main__":
    log.configure(json=True)
    asyncio.run(main(*sys.argv[1:]))
