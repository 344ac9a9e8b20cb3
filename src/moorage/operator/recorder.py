"""Kubernetes Events about an ExternalService, for `kubectl describe`."""

from collections.abc import Callable

from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.cluster import recorder
from moorage.core.model import Happening

COMPONENT = "moorage-operator"


class Recorder:
    """Writes what has happened to ExternalServices, in its own time; see `moorage.cluster.recorder`."""

    def __init__(
        self,
        client: recorder.EventClient,
        identity: str,
        now: Callable[[], str],
        may_write: Callable[[], bool] = lambda: True,
    ) -> None:
        self._recorder = recorder.Recorder(client, COMPONENT, host=identity, now=now, may_write=may_write)

    @property
    def waiting(self) -> int:
        """How many Events are to be written."""
        return self._recorder.waiting

    def record(self, xsvc: ExternalService, happening: Happening) -> None:
        """Have an Event written."""
        self._recorder.record(xsvc, happening.type, happening.reason, happening.message)

    async def run(self) -> None:
        """Write what is recorded, until cancelled."""
        await self._recorder.run()
