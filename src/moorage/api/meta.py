"""Parts that every Kubernetes object has (apimachinery's `metav1`), as msgspec structs.

Only the fields that Moorage uses are typed. Reading a real server's objects must not fail on the others, so the
structs ignore unknown fields; `api.manifest` refuses them where a person typed them.
"""

import msgspec


class Resource(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True, gc=False):
    """Base of all structs here: camelCase in JSON, immutable, defaults left out when written.

    Objects are trees, so the garbage collector, which only frees cycles, need not walk through all that a node holds.
    """


class OwnerReference(Resource, kw_only=True, frozen=True):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Resource, kw_only=True, frozen=True):
    name: str = ""
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    """RFC 3339, whole seconds, UTC."""
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    finalizers: list[str] | None = None
    managed_fields: list[dict[str, object]] | None = None
    self_link: str | None = None
    """Deprecated and ignored; old exports still carry it."""


class LabelSelectorRequirement(Resource, kw_only=True, frozen=True):
    key: str
    operator: str
    """In, NotIn, Exists or DoesNotExist."""
    values: list[str] | None = None


class LabelSelector(Resource, kw_only=True, frozen=True):
    match_labels: dict[str, str] | None = None
    match_expressions: list[LabelSelectorRequirement] | None = None


class Condition(Resource, kw_only=True, frozen=True):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int | None = None


class Object(Resource, kw_only=True, frozen=True):
    """Any Kubernetes object: its type, its metadata, and what the kind adds."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


def labels_match(selector: dict[str, str] | None, labels: dict[str, str] | None) -> bool:
    """Whether `labels` carries every pair of `selector`; an empty or absent selector matches nothing here.

    A Service without selector has no pods of its own (that is what makes it external), unlike a LabelSelector,
    whose empty form matches all.
    """
    if not selector:
        return False
    have = labels or {}
    return all(have.get(key) == value for key, value in selector.items())


def selects(selector: LabelSelector, labels: dict[str, str] | None) -> bool:
    """Whether a LabelSelector takes in an object with `labels`; the empty one takes in all."""
    have = labels or {}
    wanted = selector.match_labels or {}
    if any(have.get(key) != value for key, value in wanted.items()):
        return False
    return all(_satisfies(requirement, have) for requirement in selector.match_expressions or ())


def _satisfies(requirement: LabelSelectorRequirement, labels: dict[str, str]) -> bool:
    values = requirement.values or []
    match requirement.operator:
        case "In":
            return labels.get(requirement.key) in values
        case "NotIn":
            return labels.get(requirement.key) not in values
        case "Exists":
            return requirement.key in labels
        case "DoesNotExist":
            return requirement.key not in labels
    return False
