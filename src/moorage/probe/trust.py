"""The certificates that checks trust, ready for use."""

import ssl
import threading
from weakref import WeakValueDictionary

from moorage.cluster.handshake import bounded
from moorage.cluster.tls import client_context
from moorage.errors import MoorageError
from moorage.probe.check import Tls

MAX_PEM_CHARACTERS = 256 * 2**10
"""Of certificates that the checks of one namespace may trust at once. OpenSSL takes eleven times that."""
_FIELD = "spec.healthCheck.http.tls.caSecretRef"


class Trust:
    """The context for one PEM text. With 64 KiB, making it takes 30 ms, so it is made once, at the first use."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._problem: str | None = None

    @property
    def made(self) -> bool:
        """Whether `context` has been made."""
        return self._context is not None or self._problem is not None

    def context(self) -> ssl.SSLContext:
        """The context. May be called in any thread. Raises MoorageError if the text has no certificates."""
        with self._lock:
            if not self.made:
                try:
                    self._context = _context(self._tls)
                except MoorageError as error:
                    self._problem = f"{_FIELD}: {error}"
        if self._context is None:
            raise MoorageError(self._problem or "")
        return self._context


class TrustStore:
    """Makes each Trust once, and keeps it as long as somebody has it.

    The one with the machine's authorities takes 0.8 MiB, and all share it. The others of a namespace may have
    MAX_PEM_CHARACTERS together.
    """

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[tuple[str, Tls], Trust] = WeakValueDictionary()

    def of(self, namespace: str, tls: Tls) -> Trust:
        """The Trust for a PEM text. Raises MoorageError if the namespace would have too many characters."""
        whose = "" if tls.ca is None else namespace
        made_of = whose, tls._replace(server_name=None)
        trust = self._alive.get(made_of)
        if trust is None:
            texts = {other.ca or "" for owner, other in self._alive if owner == whose} | {tls.ca or ""}
            if sum(map(len, texts)) > MAX_PEM_CHARACTERS:
                raise MoorageError(
                    f"{_FIELD}: the checks of this namespace trust more than {MAX_PEM_CHARACTERS // 1024} KiB of "
                    "certificates in all; leave out some, or let its ExternalServices refer to one Secret"
                )
            trust = self._alive[made_of] = Trust(tls)
        return trust


def _context(tls: Tls) -> ssl.SSLContext:
    context = bounded(client_context(tls.ca))
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
