"""The certificate authorities that health checks trust in place of the system's, from Secrets."""

import base64
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from moorage.api.core_v1 import Secret
from moorage.api.meta import ObjectKey
from moorage.api.moorage_v1alpha1 import ExternalServiceSpec, SecretKeyReference
from moorage.api.show import show
from moorage.cluster.tls import inspected_certificates
from moorage.core.model import Problem
from moorage.discovery.secrets import LARGEST, SecretKey, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.errors import MoorageError


class Authority(NamedTuple):
    """What a check is to trust."""

    pem: str | None
    """None: the system's authorities, unless there is a problem."""
    problem: Problem | None
    """Why the check cannot be made."""


class Authorities:
    """Watches the Secrets that `spec.healthCheck.http.tls.caSecretRef` of ExternalServices name.

    `changed(key)` is called when what is to be trusted by this ExternalService's checks may be another.
    """

    def __init__(
        self,
        secrets: Shared[SecretKey, WatchedSecret],
        changed: Callable[[ObjectKey], None],
        now: Callable[[], str],
    ) -> None:
        self._changed = changed
        self._now = now
        self._secrets = secrets
        self._taken: dict[ObjectKey, tuple[SecretKey, WatchedSecret, Callable[[], None]]] = {}
        self._read: dict[ObjectKey, tuple[tuple[str | None, ...], str | tuple[str]]] = {}
        """What was made of which version of which Secret: reading certificates again each time takes long."""
        self._since: dict[ObjectKey, tuple[str, str]] = {}
        """What was wrong with a Secret's content, and since when."""

    def of(self, key: ObjectKey, spec: ExternalServiceSpec) -> Authority:
        """What this ExternalService's checks trust, its Secret being watched from now on."""
        ref = _reference(spec)
        if ref is None:
            self.remove(key)
            return Authority(None, None)
        wanted = SecretKey(key.namespace, ref.name, ref.key)
        if key not in self._taken or self._taken[key][0] != wanted:
            self.remove(key)
            on_change = partial(self._changed, key)
            self._taken[key] = wanted, self._secrets.take(wanted, on_change), on_change
        watched = self._taken[key][1]
        problem = watched.problem
        if problem is not None:
            return Authority(None, problem)
        if watched.secret is None:
            return Authority(
                None, Problem("Pending", f"Secret {'/'.join(wanted[:2])} has not been read yet", self._now())
            )
        version = watched.secret.metadata.uid, watched.secret.metadata.resource_version, ref.key
        if key not in self._read or self._read[key][0] != version:
            self._read[key] = version, certificates(watched.secret, ref)
        found = self._read[key][1]
        if isinstance(found, str):
            self._since.pop(key, None)
            return Authority(found, None)
        [wrong] = found
        if self._since.get(key, ("", ""))[0] != wrong:
            self._since[key] = wrong, self._now()
        return Authority(None, Problem("CertificatesNotReadable", wrong, self._since[key][1]))

    def remove(self, key: ObjectKey) -> None:
        """Nothing is to be trusted for this ExternalService any more."""
        self._since.pop(key, None)
        self._read.pop(key, None)
        if taken := self._taken.pop(key, None):
            wanted, _, on_change = taken
            self._secrets.give_back(wanted, on_change)

    def close(self) -> None:
        """Watch nothing any more."""
        for key in list(self._taken):
            self.remove(key)


def _reference(spec: ExternalServiceSpec) -> SecretKeyReference | None:
    http = spec.health_check.http if spec.health_check else None
    return http.tls.ca_secret_ref if http and http.tls and not http.tls.insecure_skip_verify else None


def certificates(secret: Secret, ref: SecretKeyReference) -> str | tuple[str]:
    """The PEM certificates that `ref` names in `secret`, or, as a tuple of one, what is wrong with them.

    OpenSSL does not see them here: it would take the process that leads some 40 ms for a hundred. The checks tell
    what little it may find wrong besides.
    """
    where = f"Secret {secret.metadata.namespace}/{secret.metadata.name}"
    encoded = (secret.data or {}).get(ref.key)
    if encoded is None:
        known = ", ".join(sorted(secret.data or {})[:5]) or "none"
        return (f"{where}: has no key {show(ref.key)}; its keys are: {known}",)
    where = f"{where}, key {ref.key}"
    try:
        content = base64.b64decode(encoded, validate=True)
    except ValueError:
        content = b""
    if len(content) > LARGEST:
        return (f"{where}: more than {LARGEST} bytes; leave out authorities that are not needed",)
    try:
        return inspected_certificates(content.decode(errors="replace"))  # comments may be in any encoding
    except MoorageError as error:
        return (f"{where}: {error}",)
