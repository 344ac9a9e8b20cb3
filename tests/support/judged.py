"""Each state that the operator can leave an ExternalService in, and how tools must judge it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from moorage.api.core_v1 import Service, ServicePort, ServiceSpec
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import Object, ObjectMeta
from moorage.api.moorage_v1alpha1 import PENDING, Drain, ExternalService, ExternalServiceStatus
from moorage.api.sources_v1alpha1 import StaticAddress
from moorage.core import conditions
from moorage.core.decide import decide
from moorage.core.model import Found, Health, Problem, Resolution, Verdict
from moorage.core.words import ConditionValue
from testing.xsvc import LATER, NAME, NAMESPACE, THEN, Story, answers, endpoints, static, verdicts, xsvc

TWO = endpoints(2)
SOURCES = static(StaticAddress(address="198.18.0.1"))
MISSING = Problem("SecretMissing", "Secret frontend/cluster-a does not exist; create it", THEN)
CLAIMED = {"kubernetes.io/service-name": NAME}


class State(NamedTuple):
    what: str
    xsvc: ExternalService
    kstatus: str
    argo: str

    @property
    def json(self) -> dict[str, Any]:
        """The object as kubectl shows it."""
        return dict(msgspec.to_builtins(self.xsvc))


def story(*resolutions: Resolution, service: Object | None = None, health: Health = "Healthy", **spec: Any) -> Story:
    """An ExternalService of whose sources this is known, and all of whose endpoints are so."""
    made = Story(xsvc(**{"endpoints": SOURCES * len(resolutions), **spec}))
    if service:
        made.cluster.put(service)
    found = [one for each in resolutions for one in each.endpoints or ()]
    given = {one.name: Verdict(health, THEN, "connection refused") for one in found}
    for _ in range(2):
        made.do(made.decide_from(resolutions, given))
    return made


def of(*resolutions: Resolution, **how: Any) -> ExternalService:
    return story(*resolutions, **how).xsvc


def served() -> Story:
    """One whose two endpoints are healthy."""
    return story(*answers(TWO))


def and_then(values: dict[str, ConditionValue], before: ExternalService) -> ExternalService:
    """The same, once the operator has come upon what `values` say."""
    found = conditions.conditions(before, values, LATER)
    return replace(before, status=replace(before.status, observed_generation=1, conditions=found))


def changed(resolutions: Sequence[Resolution], **spec: Any) -> ExternalService:
    """One that was served, edited after that, and looked at with these sources."""
    made = served()
    made.change(**spec)
    for _ in range(2):
        made.do(made.decide_from(resolutions, verdicts(TWO), LATER))
    return made.xsvc


def edited() -> ExternalService:
    made = served()
    made.change(suspend=True)
    return made.xsvc


def pending() -> ExternalService:
    return replace(xsvc(), status=msgspec.convert(PENDING, ExternalServiceStatus))


def theirs() -> Service:
    meta = ObjectMeta(name=NAME, namespace=NAMESPACE)
    return Service(api_version="v1", kind="Service", metadata=meta, spec=ServiceSpec(ports=[ServicePort(port=80)]))


def their_slice() -> EndpointSlice:
    meta = ObjectMeta(name="theirs", namespace=NAMESPACE, labels=CLAIMED)
    return EndpointSlice(api_version="discovery.k8s.io/v1", kind="EndpointSlice", metadata=meta, address_type="IPv4")


def removed() -> ExternalService:
    before = served().xsvc
    return replace(before, metadata=replace(before.metadata, deletion_timestamp=LATER))


def bad_check() -> ExternalService:
    made = served()
    problem = Problem("InvalidCheck", "spec.healthCheck: cannot be made", THEN)
    made.do(decide(made.snapshot(answers(TWO), verdicts(TWO))._replace(check_problem=problem)))
    return made.xsvc


SILENT = Resolution("cluster/backend", None)
FAILED = Resolution("cluster/backend", None, MISSING)
LOST = Resolution("addresses", None, MISSING)
REFUSED = Resolution("addresses", (Found("b1", "198.18.0.1"), Found("b2", "127.0.0.1")))
WRITE = ConditionValue("False", "WriteRefused", "Service frontend/backend could not be written: exceeded quota")

_STATES: list[tuple[str, Callable[[], ExternalService], str, str]] = [
    ("nobody has looked at it", pending, "InProgress", "Progressing"),
    ("it is served", lambda: served().xsvc, "Current", "Healthy"),
    ("it was edited since", edited, "InProgress", "Progressing"),
    # Argo CD asks no script about these: it shows them as Progressing.
    ("it is being deleted", removed, "Terminating", "Healthy"),
    # Sources
    ("its source has not answered yet", lambda: of(SILENT), "InProgress", "Progressing"),
    ("its source cannot be read", lambda: of(FAILED), "InProgress", "Progressing"),
    ("its source has none", lambda: of(Resolution("cluster/backend", ())), "InProgress", "Progressing"),
    ("a source that had some cannot be read", lambda: changed([LOST]), "Current", "Healthy"),
    (
        "it is served, and a new source has not answered yet",
        lambda: changed([*answers(TWO), SILENT], endpoints=SOURCES * 2),
        "InProgress",
        "Progressing",
    ),
    (
        "it is served, and a new source cannot be read",
        lambda: changed([*answers(TWO), FAILED], endpoints=SOURCES * 2),
        "InProgress",
        "Progressing",
    ),
    ("it names no source", lambda: of(), "Failed", "Degraded"),
    (
        "an older schema let its source in",
        lambda: of(Resolution("spec.endpoints[0]", (), Problem("Invalid", "is not a source", THEN))),
        "Failed",
        "Degraded",
    ),
    (
        "one source cannot be read, and a later one is none",
        lambda: of(FAILED, Resolution("spec.endpoints[1]", (), Problem("Invalid", "is no source", THEN))),
        "Failed",
        "Degraded",
    ),
    ("its health check cannot be made", bad_check, "Failed", "Degraded"),
    # Endpoints
    ("none has been checked yet", lambda: of(*answers(TWO), health="Unknown"), "InProgress", "Progressing"),
    ("none is healthy", lambda: of(*answers(TWO), health="Unhealthy"), "InProgress", "Progressing"),
    (
        "none is checked",
        lambda: of(*answers(TWO), health="Unchecked", health_check=None),
        "Current",
        "Healthy",
    ),
    (
        "all are drained",
        lambda: of(*answers(TWO), drain=[Drain(endpoint=each.name) for each in TWO]),
        "Failed",
        "Degraded",
    ),
    (
        "the Service has no address of its family",
        lambda: of(Resolution("addresses", (Found("six", "2001:db8::1"),))),
        "Failed",
        "Degraded",
    ),
    (
        "one is drained, and the other is not healthy",
        lambda: of(*answers(TWO), health="Unhealthy", drain=[Drain(endpoint=TWO[0].name)]),
        "InProgress",
        "Progressing",
    ),
    (
        "one of them is drained, and an unknown one",
        lambda: of(*answers(TWO), drain=[Drain(endpoint=TWO[0].name), Drain(endpoint="gone")]),
        "Current",
        "Healthy",
    ),
    ("an address is refused, and another serves", lambda: of(REFUSED), "Failed", "Degraded"),
    ("there are too many", lambda: of(*answers(endpoints(1001))), "Failed", "Degraded"),
    # The spec, Service and slices
    ("it has no ports", lambda: of(*answers(TWO), ports=()), "Failed", "Degraded"),
    (
        "moorings without the agent",
        lambda: of(*answers(TWO), session_affinity="Mooring"),
        "Failed",
        "Degraded",
    ),
    (
        "its first family would change",
        lambda: changed(answers(TWO), ip_families=["IPv6"]),
        "Failed",
        "Degraded",
    ),
    ("the Service is somebody else's", lambda: of(*answers(TWO), service=theirs()), "Failed", "Degraded"),
    ("it has slices of others", lambda: of(*answers(TWO), service=their_slice()), "Failed", "Degraded"),
    ("the Service is refused", lambda: and_then({"Ready": WRITE}, served().xsvc), "Failed", "Degraded"),
    ("it is suspended, and served", lambda: changed(answers(TWO), suspend=True), "Current", "Suspended"),
    ("it is suspended from its beginning", lambda: of(suspend=True), "Failed", "Suspended"),
    # What keeps a decision from being made
    (
        "it cannot be read",
        lambda: and_then(conditions.unreadable(xsvc(), "It", "spec.ports: no list"), pending()),
        "Failed",
        "Degraded",
    ),
    ("a bug, before it is served", lambda: and_then(conditions.failed(xsvc()), pending()), "Failed", "Degraded"),
    (
        "a bug, while it is served",
        lambda: and_then(conditions.failed(served().xsvc), served().xsvc),
        "Failed",
        "Degraded",
    ),
    (
        "its status is refused",
        lambda: and_then({"Accepted": WRITE}, served().xsvc),
        "Failed",
        "Degraded",
    ),
]


def states() -> list[State]:
    """All of them."""
    return [State(what, make(), kstatus, argo) for what, make, kstatus, argo in _STATES]
