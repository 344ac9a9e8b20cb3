"""The wall clock, as Kubernetes writes it. Only for people: nothing is decided by comparing two machines' clocks."""

from datetime import UTC, datetime


def timestamp() -> str:
    """Now, RFC 3339 in UTC with whole seconds (`metav1.Time`): `2027-01-01T00:00:00Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp() -> str:
    """Now, RFC 3339 in UTC with six digits of a second (`metav1.MicroTime`): `2027-01-01T00:00:00.000000Z`."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
