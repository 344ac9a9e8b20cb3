"""Parts that every Kubernetes object has (apimachinery's `metav1`), as msgspec structs.

Only the fields that Moorage uses are typed. Reading a real server's objects must not fail on the others, so the
structs ignore unknown fields; `api.manifest` refuses them where a person typed them.
"""

from typing import Annotated, NamedTuple

import msgspec

from moorage.api.schema import LABEL_VALUE, QUALIFIED_NAME, doc


class Resource(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True, gc=False):
    """Base of all structs here: camelCase in JSON, immutable, defaults left out of the JSON.

    Objects are trees, so the garbage collector, which only frees cycles, need not walk through them.
    """


class ObjectKey(NamedTuple):
    """Namespace and name, which identify an object among those of its kind."""

    namespace: str
    """`""` for kinds without namespace."""
    name: str

    def __str__(self) -> str:
        """`frontend/backend`; only the name for kinds without namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


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

    @property
    def key(self) -> ObjectKey:
        """Namespace and name of the object with this metadata."""
        return ObjectKey(self.namespace or "", self.name)


class LabelSelectorRequirement(Resource, kw_only=True, frozen=True):
    """A label, and what is asked of its value."""

    key: Annotated[str, doc("Key of the label.", QUALIFIED_NAME, minLength=1, maxLength=317)]
    operator: Annotated[
        str,
        doc(
            "In and NotIn: the value is, or is not, among values. Exists and DoesNotExist: there is, or is no, such "
            "label.",
            enum=["In", "NotIn", "Exists", "DoesNotExist"],
        ),
    ]
    values: Annotated[
        list[Annotated[str, doc("Value of a label.", LABEL_VALUE, maxLength=63)]] | None,
        doc("What In and NotIn look for; empty for the others.", maxItems=32),
    ] = None


class LabelSelector(Resource, kw_only=True, frozen=True):
    """Selects objects by their labels: those that meet every condition in it."""

    match_labels: Annotated[
        dict[str, Annotated[str, doc("Value of the label.", LABEL_VALUE, maxLength=63)]] | None,
        doc("Labels that an object must have, with these values.", maxProperties=32),
    ] = None
    match_expressions: Annotated[
        list[LabelSelectorRequirement] | None, doc("What else is asked of its labels.", maxItems=16)
    ] = None


class Condition(Resource, kw_only=True, frozen=True):
    """A condition of an object: it holds, does not hold, or is unknown."""

    type: Annotated[str, doc("What it is about.")]
    status: Annotated[str, doc("Whether it holds.", enum=["True", "False", "Unknown"])]
    reason: Annotated[str, doc("Why, in one word, for programs.")] = ""
    message: Annotated[str, doc("Why, and what to do, for people.")] = ""
    last_transition_time: Annotated[str | None, doc("When status last changed.")] = None
    observed_generation: Annotated[int | None, doc("The generation of the object that this is about.")] = None


class Object(Resource, kw_only=True, frozen=True):
    """Any Kubernetes object: its type, its metadata, and what the kind adds."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


def is_older(obj: Object, than: Object) -> bool:
    """Whether `obj` is an older version of the object `than`.

    Resource versions are numbers that grow (KEP-5504 promises it; etcd's revisions always were). If they are not
    numbers, nothing counts as older.
    """
    ours, theirs = obj.metadata.resource_version or "", than.metadata.resource_version or ""
    return ours.isdecimal() and theirs.isdecimal() and int(ours) < int(theirs)


def labels_match(selector: dict[str, str] | None, labels: dict[str, str] | None) -> bool:
    """Whether `labels` has every pair of `selector`; an empty or absent selector matches nothing.

    A Service without selector has no pods of its own (that is what makes it external). An empty LabelSelector, on
    the other hand, matches everything.
    """
    if not selector:
        return False
    have = labels or {}
    return all(have.get(key) == value for key, value in selector.items())


def selects(selector: LabelSelector, labels: dict[str, str] | None) -> bool:
    """Whether a LabelSelector selects an object with `labels`; an empty one selects everything."""
    have = labels or {}
    if selector.match_labels and not selector.match_labels.items() <= have.items():
        return False
    if not selector.match_expressions:
        return True
    return all(_satisfies(requirement, have) for requirement in selector.match_expressions)


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
