"""What a check knows of a cluster: plain data. `gather` and `trial` fill it, `findings` and `obedience` judge it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from moorage.api.moorage_v1alpha1 import GROUP
from moorage.check.plan import Plan

T = TypeVar("T")

IMAGE = "moorage:latest"
"""Which the manifests name."""
AGENT_PORT = 10271
"""Where the manifests have agents answer."""


class Unread(NamedTuple):
    """Something that could not be read."""

    why: str


Known: TypeAlias = T | Unread


class Definition(NamedTuple):
    """A CustomResourceDefinition."""

    established: bool
    schemas: dict[str, dict[str, Any]]
    """Each version that is served -> its OpenAPI schema."""


class Pod(NamedTuple):
    """A pod of the operator or of a node agent."""

    name: str
    node: str
    """`""`: it has none yet."""
    ready: bool
    running: bool
    """Whether its container runs, so that it can be asked."""
    trouble: str
    """What its status says of a container that does not run, or has ended before; `""`: nothing."""


class Workload(NamedTuple):
    """A Deployment or DaemonSet, and its pods."""

    wanted: int
    ready: int
    images: tuple[str, ...]
    pods: Known[tuple[Pod, ...]]


class Leader(NamedTuple):
    """The Lease of the operator."""

    holder: str
    """`""`: nobody."""
    since: str
    """When the holder took it, as the holder wrote it (RFC 3339)."""
    renews: bool
    """Whether it was renewed while we looked. Times of two machines are not compared."""


class Told(NamedTuple):
    """What the metrics of a node agent say."""

    version: str = ""
    nft: str = ""
    learns_ipv6: bool = True
    tcp_loose: bool = True
    behind_seconds: float = 0.0
    refused_ports: int = 0
    warnings: int = 0


class Agent(NamedTuple):
    """What the agent of one node answers."""

    node: str
    why_not_ready: str = ""
    """In its own words; `""`: it is ready, or did not say."""
    told: Known[Told] = Told()


class Policy(NamedTuple):
    """A ValidatingAdmissionPolicy."""

    fails_closed: bool
    """Requests about which it cannot decide are refused."""
    denies: bool
    """A binding of the same name makes it refuse requests."""


class KubeProxy(NamedTuple):
    """kube-proxy, as far as objects of kube-system show it."""

    mode: str
    """`""`: its default."""


class Cilium(NamedTuple):
    """The network plugin Cilium."""

    replaces_kube_proxy: bool


class Names(NamedTuple):
    """Where Moorage is looked for."""

    operator: str = "moorage-system"
    """Namespace of the operator."""
    agents: str = "moorage-agent"
    """Namespace of the node agents."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. None means that there is no such object, Unread that it could not be found out."""

    names: Names = Names()
    version: Known[str]
    """Of the API server: `v1.37.2`."""
    before: bool = True
    """Whether to judge if Moorage can be installed, or how it runs."""
    groups: Known[frozenset[str]] = frozenset()
    """Groups and versions that the API server serves: `moorage.dev/v1alpha1`."""
    definitions: dict[str, Known[Definition | None]] = {}
    """By name: `externalservices.moorage.dev`."""
    operator: Known[Workload | None] = None
    leader: Known[Leader | None] = None
    agents: Known[Workload | None] = None
    answers: tuple[Agent, ...] = ()
    """Of agents that were asked; there is a limit to them."""
    carried: Known[bool] = False
    """Whether there are Services for node agents."""
    policy: Known[Policy | None] = None
    missing: dict[str, Known[tuple[str, ...] | None]] = {}
    """`operator`, `agent`, or `you` -> what that account has to do and may not, in words. None: the API server does
    not say."""
    kube_proxy: Known[KubeProxy | None] = None
    cilium: Known[Cilium | None] = None

    @property
    def image(self) -> str:
        """The one that is installed, else the one that the manifests name."""
        found = (each for each in (self.operator, self.agents) if isinstance(each, Workload))
        return next((image for each in found for image in each.images), IMAGE)

    @property
    def nodes_with_agents(self) -> frozenset[str]:
        """As far as that is known."""
        if not isinstance(self.agents, Workload) or isinstance(self.agents.pods, Unread):
            return frozenset()
        return frozenset(pod.node for pod in self.agents.pods)

    @property
    def installed(self) -> bool:
        """Whether anything of Moorage has been found."""
        definitions = [*self.definitions.values()]
        found = [*definitions, self.operator, self.leader, self.agents]
        if any(each is not None and not isinstance(each, Unread) for each in found):
            return True
        # Everybody may read which groups there are, and few may read definitions.
        served = not isinstance(self.groups, Unread) and any(each.startswith(f"{GROUP}/") for each in self.groups)
        return served and any(isinstance(each, Unread) for each in definitions)


# --- Of a trial of the service proxy --------------------------------------------------------------------------------


class Heard(NamedTuple):
    """What became of connections to one Service, one after the other."""

    answers: Mapping[str, int]
    """Who answered -> how many of them."""
    failed: int
    why: str
    """Of the last one that failed."""


class Tried(NamedTuple):
    """A trial that came to its end."""

    plan: Plan
    heard: Mapping[str, Known[Mapping[str, Heard]]]
    """Each node with a client -> what that says of each Service."""


class Left(NamedTuple):
    """Something of a trial that could not be deleted."""

    command: str
    """What deletes all of it."""
    why: str


class Outcome(NamedTuple):
    """Of a trial."""

    tried: Known[Tried]
    left: Left | None = None
    interrupted: bool = False
