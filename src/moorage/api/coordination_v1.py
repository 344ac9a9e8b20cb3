"""`coordination.k8s.io/v1`: Lease, which makes one of several processes the leader."""

from moorage.api.meta import Object, Resource


class LeaseSpec(Resource, kw_only=True, frozen=True):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    """RFC 3339 with six digits of a second (`metav1.MicroTime`), UTC; so is renew_time."""
    renew_time: str | None = None
    lease_transitions: int | None = None
    strategy: str | None = None
    preferred_holder: str | None = None


class Lease(Object, kw_only=True, frozen=True):
    spec: LeaseSpec = LeaseSpec()
