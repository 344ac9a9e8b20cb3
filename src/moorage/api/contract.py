"""The contract between operator, node agents and tools: labels and annotations of Services and EndpointSlices.

The operator encodes them, node agents and tools decode them. No other module knows their names or formats.

Anybody may write labels and annotations, so decoding accepts anything. A value that cannot be right counts as absent,
and is reported in one line: the object, the field, what is wrong.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from moorage.api.meta import LabelSelector, ObjectKey, ObjectMeta
from moorage.api.moorage_v1alpha1 import CLIENT_KINDS, GROUP, KINDS_OF_PODS
from moorage.api.mooring_names import client_label
from moorage.api.schema import QUALIFIED_NAME
from moorage.api.show import show

PROXY_LABEL = "service.kubernetes.io/service-proxy-name"
"""On a Service and its slices: who carries it. kube-proxy leaves objects with this label alone (KEP-2447)."""
PROXY = "moorage"
"""Its value where node agents carry the Service."""
CARRIED_SELECTOR = f"{PROXY_LABEL}={PROXY}"
"""The label selector for Services that node agents carry."""

SERVICE_MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
SERVICE_MANAGER = "moorage"
SLICE_MANAGER = GROUP
"""Our value of `endpointslice.kubernetes.io/managed-by`. Kubernetes' own controllers have other values."""

AFFINITY_ANNOTATION = f"{GROUP}/affinity"
"""On a Service: `Mooring`. The next two come with it, and the others where clients are pods."""
GROUP_ANNOTATION = f"{GROUP}/group"
"""On a Service: the group whose moorings hold for its clients, a DNS label."""
CLIENT_ANNOTATION = f"{GROUP}/client"
"""On a Service: what counts as one client, one of `CLIENT_KINDS`."""
LABEL_ANNOTATION = f"{GROUP}/label"
"""On a Service, where the client is Label: the key of the pods' label by whose value they are told apart."""
POD_SELECTOR_ANNOTATION = f"{GROUP}/pod-selector"
"""On a Service, where clients are pods: which pods of its namespace are clients, a LabelSelector in JSON."""
WHILE_PENDING_ANNOTATION = f"{GROUP}/while-pending"
"""On a Service, where clients are pods: `Hold` or `Hash`, what becomes of the first connections of a pod whose
mooring is not known yet."""
GROUP_LABEL = f"{GROUP}/group"
"""On a Mooring: its group, as in its spec, so that `kubectl get moorings -l` finds those of a group."""
CLIENT_LABEL = f"{GROUP}/client"
"""On a Mooring: its client, as `client_label` writes it. A node agent finds those of its node and zone by it."""
WEIGHTS_ANNOTATION = f"{GROUP}/weights"
"""On a slice: a JSON object of endpoint hostname (or address) to weight. Other endpoints weigh 1."""

MAX_WEIGHT = 100
MAX_LABELS, MAX_EXPRESSIONS, MAX_VALUES = 32, 16, 32
"""Of a pod selector, as in an ExternalService: it is asked about each pod of a node."""

_MOORING, _HOLD, _HASH = "Mooring", "Hold", "Hash"
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_RULES: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    (AFFINITY_ANNOTATION, _MOORING, _MOORING.__eq__),
    (GROUP_ANNOTATION, "a DNS label, such as backend", _DNS_LABEL.fullmatch),
    (CLIENT_ANNOTATION, f"{', '.join(CLIENT_KINDS[:-1])} or {CLIENT_KINDS[-1]}", CLIENT_KINDS.__contains__),
)
"""Annotations of a Service with moored clients: name, what the value must be, and the check."""
_LABEL_RULE = (LABEL_ANNOTATION, "a label's key, such as example.com/tenant", QUALIFIED_NAME.holds)
"""The same, where the client is Label."""
_PODS_RULES: tuple[tuple[str, str, Callable[[str], object]], ...] = (
    (
        POD_SELECTOR_ANNOTATION,
        f"a LabelSelector in JSON, with at most {MAX_LABELS} labels, {MAX_EXPRESSIONS} expressions and {MAX_VALUES} "
        'values of each, such as {"matchLabels":{"app":"frontend"}}',
        lambda text: _selector(text) is not None,
    ),
    (WHILE_PENDING_ANNOTATION, f"{_HOLD} or {_HASH}", (_HOLD, _HASH).__contains__),
)
"""The same, where clients are pods."""
_READ_OF_LABELS = (PROXY_LABEL, SERVICE_NAME_LABEL)
_READ_OF_SERVICE: tuple[str, ...] = (
    AFFINITY_ANNOTATION,
    GROUP_ANNOTATION,
    CLIENT_ANNOTATION,
    LABEL_ANNOTATION,
    POD_SELECTOR_ANNOTATION,
    WHILE_PENDING_ANNOTATION,
)
_READ_OF_ANNOTATIONS = (*_READ_OF_SERVICE, WEIGHTS_ANNOTATION)

T = TypeVar("T")


class MooredBy(NamedTuple):
    """How the clients of a Service are moored."""

    group: str
    client: str
    label: str = ""
    """With client Label the label's key; empty with others."""
    pods: LabelSelector | None = None
    """Which pods of the namespace are clients; None where clients are no pods."""
    holds: bool = False
    """Where clients are pods: the first connections of one whose mooring is not known yet wait for it."""


class ServiceContract(NamedTuple):
    """The content of a Service's labels and annotations."""

    proxy: str | None = None
    """Who carries it: `PROXY`, None for kube-proxy, or somebody else."""
    moored: MooredBy | None = None
    """None: its clients are not moored."""


class SliceContract(NamedTuple):
    """The content of an EndpointSlice's labels and annotations."""

    service: str | None = None
    """Name of the Service, in the slice's namespace, whose endpoints these are."""
    proxy: str | None = None
    """As for a Service."""
    weights: Mapping[str, int] = {}
    """Hostname (or address) of an endpoint -> weight, from 1 to `MAX_WEIGHT`; 1 for those that are not in it."""


class Decoded(NamedTuple, Generic[T]):
    """The decoded content, and a line for each annotation that cannot be right."""

    contract: T
    problems: tuple[str, ...]


class Marks(NamedTuple):
    """Labels and annotations that an object must have; None: must not have. Others are left alone."""

    labels: Mapping[str, str | None]
    annotations: Mapping[str, str | None]

    def patch(self, have: ObjectMeta) -> dict[str, Any]:
        """The merge patch of `metadata` that sets the marks; empty if nothing has to change."""
        patch = {
            "labels": _differing(have.labels, self.labels),
            "annotations": _differing(have.annotations, self.annotations),
        }
        return {field: values for field, values in patch.items() if values}

    def on(self, new: ObjectMeta) -> ObjectMeta:
        """The metadata of a new object, with these labels and annotations."""
        return replace(new, labels=_present(self.labels), annotations=_present(self.annotations))


def encode_service(contract: ServiceContract) -> Marks:
    """The labels and annotations of a Service that the operator writes."""
    moored = contract.moored
    annotations = dict.fromkeys(_READ_OF_SERVICE)
    if moored:
        annotations |= {
            AFFINITY_ANNOTATION: _MOORING,
            GROUP_ANNOTATION: moored.group,
            CLIENT_ANNOTATION: moored.client,
        }
        annotations[LABEL_ANNOTATION] = moored.label or None
    if moored and moored.pods is not None:
        annotations[POD_SELECTOR_ANNOTATION] = msgspec.json.encode(moored.pods, order="sorted").decode()
        annotations[WHILE_PENDING_ANNOTATION] = _HOLD if moored.holds else _HASH
    return Marks({SERVICE_MANAGED_BY_LABEL: SERVICE_MANAGER, PROXY_LABEL: contract.proxy}, annotations)


def decode_service(meta: ObjectMeta) -> Decoded[ServiceContract]:
    """Read the metadata of a Service, whoever wrote it. Raises nothing."""
    problems: list[str] = []
    moored = _moored(meta, problems)
    return Decoded(ServiceContract(proxy_of(meta), moored), tuple(problems))


def proxy_of(meta: ObjectMeta) -> str | None:
    """Who carries a Service or a slice: `PROXY`, None for kube-proxy, or somebody else."""
    return (meta.labels or {}).get(PROXY_LABEL)


def encode_slice(contract: SliceContract) -> Marks:
    """The labels and annotations of an EndpointSlice that the operator writes."""
    weights = msgspec.json.encode(contract.weights, order="sorted").decode() if contract.weights else None
    return Marks(
        {
            SERVICE_NAME_LABEL: contract.service,
            MANAGED_BY_LABEL: SLICE_MANAGER,
            PROXY_LABEL: contract.proxy,
        },
        {WEIGHTS_ANNOTATION: weights},
    )


def decode_slice(meta: ObjectMeta) -> Decoded[SliceContract]:
    """Read the metadata of an EndpointSlice, whoever wrote it. Raises nothing."""
    service = service_of(meta)
    problems: list[str] = []
    weights = _weights(meta, problems)
    return Decoded(SliceContract(service.name if service else None, proxy_of(meta), weights), tuple(problems))


def encode_mooring(group: str, kind: str, name: str) -> Marks:
    """The labels of the Mooring of a client: its group, and the client's kind and name."""
    return Marks({GROUP_LABEL: group, CLIENT_LABEL: client_label(kind, name)}, {})


def moorings_of(*clients: tuple[str, str]) -> str:
    """The label selector for Moorings of these clients, each given by kind and name, in any group."""
    return f"{CLIENT_LABEL} in ({','.join(client_label(*each) for each in clients)})"


def service_of(slice_meta: ObjectMeta) -> ObjectKey | None:
    """The Service that an EndpointSlice belongs to, as `decode_slice` reads it."""
    name = (slice_meta.labels or {}).get(SERVICE_NAME_LABEL)
    return ObjectKey(slice_meta.namespace or "", name) if name else None


def slim(meta: ObjectMeta) -> ObjectMeta:
    """`meta` without the labels and annotations that nothing here reads; they may be large."""
    return replace(
        meta, labels=_only(_READ_OF_LABELS, meta.labels), annotations=_only(_READ_OF_ANNOTATIONS, meta.annotations)
    )


def _moored(meta: ObjectMeta, problems: list[str]) -> MooredBy | None:
    annotations = meta.annotations or {}
    if AFFINITY_ANNOTATION not in annotations:
        return None
    client = annotations.get(CLIENT_ANNOTATION)
    of_pods = _PODS_RULES if client in KINDS_OF_PODS else ()
    for annotation, rule, is_right in (*_RULES, *((_LABEL_RULE,) if client == "Label" else ()), *of_pods):
        value = annotations.get(annotation)
        if value is None or not is_right(value):
            found = "is missing" if value is None else f"is {show(value)}"
            where = _where("Service", meta, annotation)
            problems.append(f"{where} {found}, and must be {rule}; clients are not moored")
            return None
    return MooredBy(
        annotations[GROUP_ANNOTATION],
        annotations[CLIENT_ANNOTATION],
        annotations[LABEL_ANNOTATION] if client == "Label" else "",
        _selector(annotations[POD_SELECTOR_ANNOTATION]) if of_pods else None,
        bool(of_pods) and annotations[WHILE_PENDING_ANNOTATION] == _HOLD,
    )


def _selector(text: str) -> LabelSelector | None:
    """None if it is none that is used."""
    try:
        selector = msgspec.json.decode(text, type=LabelSelector)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    expressions = selector.match_expressions or ()
    few = len(selector.match_labels or ()) <= MAX_LABELS and len(expressions) <= MAX_EXPRESSIONS
    return selector if few and all(len(each.values or ()) <= MAX_VALUES for each in expressions) else None


def _weights(meta: ObjectMeta, problems: list[str]) -> dict[str, int]:
    text = (meta.annotations or {}).get(WEIGHTS_ANNOTATION)
    if text is None:
        return {}
    try:
        weights = msgspec.json.decode(text, type=dict[str, int])
        if all(1 <= weight <= MAX_WEIGHT for weight in weights.values()):
            return weights
    except (msgspec.MsgspecError, UnicodeError):
        pass
    problems.append(
        f"{_where('EndpointSlice', meta, WEIGHTS_ANNOTATION)} is not a JSON object of name to whole number from 1 to "
        f'{MAX_WEIGHT}, such as {{"backend1": 2}}; all weigh 1'
    )
    return {}


def _where(kind: str, meta: ObjectMeta, annotation: str) -> str:
    return f"{kind} {meta.key}: metadata.annotations[{annotation}]"


def _differing(have: Mapping[str, str] | None, want: Mapping[str, str | None]) -> dict[str, str | None]:
    return {key: value for key, value in want.items() if (have or {}).get(key) != value}


def _present(values: Mapping[str, str | None]) -> dict[str, str] | None:
    return {key: value for key, value in values.items() if value is not None} or None


def _only(names: Iterable[str], values: Mapping[str, str] | None) -> dict[str, str] | None:
    kept = {name: values[name] for name in names if name in values} if values else None
    return kept or None
