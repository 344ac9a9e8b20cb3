"""Objects in this package: plain dicts, as decoded from JSON."""

from datetime import UTC, datetime
from typing import Any

Obj = dict[str, Any]
"""One Kubernetes object. Objects in the store are never changed in place."""


def metadata(obj: Obj) -> Obj:
    """The object's metadata; empty if it has none."""
    found = obj.get("metadata")
    return found if isinstance(found, dict) else {}


def name_of(obj: Obj) -> str:
    return str(metadata(obj).get("name") or "")


def namespace_of(obj: Obj) -> str:
    return str(metadata(obj).get("namespace") or "")


def timestamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as `metav1.Time` writes it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> datetime:
    """Parse a time; raises ValueError unless it is RFC 3339."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def dig(obj: Any, *path: str) -> Any:
    """The value at a path of field names; None if any part of the path is missing."""
    for field in path:
        if not isinstance(obj, dict):
            return None
        obj = obj.get(field)
    return obj
