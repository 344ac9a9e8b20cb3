"""Parts that every Kubernetes object has (apimachinery's `metav1`), as msgspec structs.

Only the fields that Moorage uses are typed. Reading a real server's objects must not fail on the others, so the
structs ignore unknown fields; `api.manifest` refuses them where a person typed them.
"""

import msgspec


class Resource(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True, frozen=True):
    """Base of all structs here: camelCase in JSON, immutable, defaults left out when written."""


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


class LabelSelector(Resource, kw_only=True, frozen=True):
    match_labels: dict[str, str] | None = None


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
