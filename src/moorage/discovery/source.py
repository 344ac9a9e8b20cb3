"""What all kinds of sources have in common."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from moorage.api.moorage_v1alpha1 import ExternalServicePort
from moorage.cluster.clock import timestamp
from moorage.core.model import Found, Problem
from moorage.discovery.choice import Families

MAX_ENDPOINTS = 1000
"""Of one source: as many as `addresses` may hold."""
MAX_LOOKUPS_PER_SECOND = 20
"""For all names of one source. With more names, they are looked up less often than their TTL says."""
MAX_NOTES = 10


class State(NamedTuple):
    """What a source knows; like `core.model.Resolution`, but its messages do not name the field yet."""

    endpoints: tuple[Found, ...] | None = None
    problem: Problem | None = None
    notes: tuple[str, ...] = ()


class Setting(NamedTuple):
    """What a source is given besides its spec."""

    on_change: Callable[[], None]
    """Called after `state` has changed."""
    families: Families = ("IPv4", "IPv6")
    ports: Sequence[ExternalServicePort] = ()
    known: Mapping[str, str] = {}
    """Addresses of endpoints by name, from the status: an operator that starts keeps them."""
    now: Callable[[], str] = timestamp
    """RFC 3339."""
    jitter: Callable[[], float] = random.random
    """Returns a number in [0, 1)."""


class Source(ABC):
    """Follows one entry of `spec.endpoints`. `run` keeps `state` current until it is cancelled."""

    def __init__(self, setting: Setting) -> None:
        self.state = State()
        self.setting = setting

    @abstractmethod
    async def run(self) -> None: ...

    def set_ports(self, ports: Sequence[ExternalServicePort]) -> None:
        """Set the ports. They only matter for notes."""
        self.setting = self.setting._replace(ports=ports)

    def gate_changed(self) -> None:  # noqa: B027
        """The gate has changed: ask it again about every address."""

    def set_failing(self, addresses: Mapping[str, str]) -> None:  # noqa: B027
        """Set which endpoints fail their checks: name -> the address that fails."""

    def become(self, state: State) -> None:
        """Set the state, cut to what a source may have, and call `on_change` if it differs."""
        endpoints, problem, notes = state
        if endpoints is not None and len(endpoints) > MAX_ENDPOINTS:
            notes = (f"has {len(endpoints)} endpoints, of which the first {MAX_ENDPOINTS} are used", *notes)
            endpoints = endpoints[:MAX_ENDPOINTS]
        if len(notes) > MAX_NOTES:
            notes = (*notes[:MAX_NOTES], f"and {len(notes) - MAX_NOTES} more like these")
        state = State(endpoints, problem, notes)
        if state != self.state:
            self.state = state
            self.setting.on_change()
