"""The certificates that checks trust, ready for use."""

import ssl
import threading
from weakref import WeakValueDictionary

from moorage.cluster.handshake import bounded
from moorage.cluster.tls import client_context
from moorage.errors import MoorageError
from moorage.probe.check import Tls

MAX_PEM_CHARACTERS = 256 * 2**10
"""Of certificates that the checks of one namespace may trust at once. In use they take eleven times that."""
_FIELD = "spec.healthCheck.http.tls.caSecretRef"


class Trust:
    """Of one text. Of 64 KiB it takes 30 ms to make the context, so that is done once, where it is wanted first."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None
        self._problem: str | None = None

    @property
    def made(self) -> bool:
        """Whether `context` is there already."""
        return self._context is not None or self._problem is not None

    def context(self) -> ssl.SSLContext:
        """May be called in any thread. Raises MoorageError where the text has no certificates."""
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
    """Makes each Trust once, and keeps it for as long as somebody has it.

    With the machine's authorities it takes 0.8 MiB, and is the same for all. Of those with a text of their own a
    namespace may have MAX_PEM_CHARACTERS.
    """

    def __init__(self) -> None:
        self._alive: WeakValueDictionary[tuple[str, Tls], Trust] = WeakValueDictionary()

    def of(self, namespace: str, tls: Tls) -> Trust:
        """Raises MoorageError where the namespace would have too many."""
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
