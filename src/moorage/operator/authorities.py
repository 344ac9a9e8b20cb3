"""The certificate authorities that health checks trust in place of the system's, from Secrets."""

import base64
from collections.abc import Callable
from typing import NamedTuple

from moorage.api.core_v1 import Secret
from moorage.api.moorage_v1alpha1 import ExternalServiceSpec
from moorage.api.show import show
from moorage.api.sources_v1alpha1 import SecretKeyReference
from moorage.cluster.tls import inspected_certificates
from moorage.core.model import Problem
from moorage.discovery.secrets import MAX_VALUE_BYTES, SecretKey, WatchedSecret
from moorage.discovery.shared import Shared
from moorage.errors import MoorageError


class Authority(NamedTuple):
    """The authorities that a check trusts."""

    pem: str | None
    """PEM certificates. None without a problem: the system's authorities."""
    problem: Problem | None
    """Why the check cannot be made."""


class CheckAuthority:
    """Watches the Secret that `spec.healthCheck.http.tls.caSecretRef` of one ExternalService names.

    `changed()` is called when the authorities may have changed.
    """

    def __init__(
        self, secrets: Shared[SecretKey, WatchedSecret], changed: Callable[[], None], now: Callable[[], str]
    ) -> None:
        self._changed = changed
        self._now = now
        self._secrets = secrets
        self._watched: tuple[SecretKey, WatchedSecret] | None = None
        self._version: tuple[str | None, ...] | None = None
        self._content: str | tuple[str] = ""
        """The result for that version of the Secret: reading the certificates again each time would take long."""
        self._wrong_since = ""

    def of(self, namespace: str, spec: ExternalServiceSpec) -> Authority:
        """The authorities of the checks. From now on their Secret is watched."""
        ref = _reference(spec)
        if ref is None:
            self.close()
            return Authority(None, None)
        wanted = SecretKey(namespace, ref.name, ref.key)
        if self._watched is None or self._watched[0] != wanted:
            self.close()
            self._watched = wanted, self._secrets.take(wanted, self._changed)
        watched = self._watched[1]
        problem = watched.problem
        if problem is not None:
            return Authority(None, problem)
        if watched.secret is None:
            return Authority(
                None, Problem("Pending", f"Secret {'/'.join(wanted[:2])} has not been read yet", self._now())
            )
        version = watched.secret.metadata.uid, watched.secret.metadata.resource_version
        if version != self._version:
            before, self._content = self._content, certificates(watched.secret, ref)
            self._version = version
            if self._content != before:
                self._wrong_since = self._now()
        if isinstance(self._content, str):
            return Authority(self._content, None)
        return Authority(None, Problem("CertificatesNotReadable", self._content[0], self._wrong_since))

    def close(self) -> None:
        """Stop watching."""
        if self._watched is not None:
            self._secrets.give_back(self._watched[0], self._changed)
        self._watched = self._version = None
        self._content = ""


def _reference(spec: ExternalServiceSpec) -> SecretKeyReference | None:
    http = spec.health_check.http if spec.health_check else None
    return http.tls.ca_secret_ref if http and http.tls and not http.tls.insecure_skip_verify else None


def certificates(secret: Secret, ref: SecretKeyReference) -> str | tuple[str]:
    """The PEM certificates that `ref` names in `secret`, or a tuple that says what is wrong with them.

    OpenSSL does not look at them here: a hundred would hold up the leader for some 40 ms. What only OpenSSL finds
    wrong, the checks report.
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
    if len(content) > MAX_VALUE_BYTES:
        return (f"{where}: more than {MAX_VALUE_BYTES} bytes; leave out authorities that are not needed",)
    try:
        return inspected_certificates(content.decode(errors="replace"))  # comments may be in any encoding
    except MoorageError as error:
        return (f"{where}: {error}",)
