"""Names of Mooring objects, and the label that names their client. Each client of a group has its own, and everybody
finds it without looking."""

import hashlib
import re

MAX_CHARACTERS = 253
"""Of an object's name (RFC 1123 subdomain, as Kubernetes has it)."""
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob")
"""Kubernetes' own kinds of workloads."""

MAX_LABEL_CHARACTERS = 63
"""Of a label's value."""

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DIGITS = 16
"""Of the hash: 64 bits, so that nobody finds two clients of one name by chance."""


def mooring_name(group: str, kind: str, name: str) -> str:
    """The name of the Mooring of a client: `backend.frontend-0` of a Pod, `backend.node.n1` of a Node.

    Those of other kinds are built as a Node's; a workload's has its kind: `backend.workload.deployment.frontend`. A
    client whose name would be too long or ambiguous, or cannot be part of an object's name, is known by a hash:
    `backend.label-8d1f4c2ab90e6f37.tenant-a`. `group` is a DNS label, `kind` one of `CLIENT_KINDS`, `name` any text.

    No two clients share a name. A pod's has one dot. The others have more, and after the first dot either their kind
    or, with a hash, their kind and `-`.
    """
    plain = _plain(group, kind, name)
    if plain is not None and len(plain) <= MAX_CHARACTERS and _SUBDOMAIN.fullmatch(plain):
        return plain
    hashed = f"{group}.{_hashed(kind, name)}"
    readable = re.sub("[^a-z0-9]+", "-", name.lower())[: MAX_CHARACTERS - len(hashed) - 1].strip("-")
    return f"{hashed}.{readable or 'x'}"


def client_label(kind: str, name: str) -> str:
    """The value of the label by which the Moorings of a client are found: `node.n1`.

    A client whose name is too long or cannot be part of a label's value is known by a hash: `node-8d1f4c2ab90e6f37`.
    No two clients share one. `kind` is one of `CLIENT_KINDS`, `name` any text.
    """
    plain = f"{kind.lower()}.{name}"
    return plain if len(plain) <= MAX_LABEL_CHARACTERS and _LABEL.fullmatch(plain) else _hashed(kind, name)


def _hashed(kind: str, name: str) -> str:
    return f"{kind.lower()}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:_DIGITS]}"


def _plain(group: str, kind: str, name: str) -> str | None:
    """The name without a hash; None where another client could have it, too."""
    if kind == "Pod":
        return None if "." in name else f"{group}.{name}"
    if kind == "Workload":
        workload, _, name = name.partition("/")
        if workload not in WORKLOADS:
            return None  # kinds of others may differ in case alone
        name = f"{workload.lower()}.{name}"
    return f"{group}.{kind.lower()}.{name}"
