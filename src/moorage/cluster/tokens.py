"""The bearer token of a client, which may come from a file that changes from time to time."""

import asyncio
from pathlib import Path

from moorage.cluster.kubeconfig import Config, is_token
from moorage.errors import MoorageError

TOKEN_LIFE_SECONDS = 60.0
"""How long until a token file is read again, as in client-go. The kubelet writes a new token early enough."""


class Token:
    """The bearer token of a Config."""

    def __init__(self, config: Config) -> None:
        self._file = config.token_file if not config.token else None
        self._token = config.token
        self._read_at = 0.0

    def bearer(self) -> str | None:
        """The token to send; None: send none. Raises MoorageError if its file cannot be read."""
        if self._file is None:
            return self._token
        now = asyncio.get_running_loop().time()
        if self._token is None or now - self._read_at > TOKEN_LIFE_SECONDS:
            self._token = _read(self._file)
            self._read_at = now
        return self._token

    def refused(self, sent: str | None) -> bool:
        """Call this after a 401 to `sent`. Returns whether there is another token to try. Raises as `bearer`.

        A token can become invalid early, after a node has slept or when it is revoked, for all requests under way.
        """
        if self._file is None:
            return False
        if self._token == sent:
            self._token = None
        return self.bearer() != sent


def _read(file: str) -> str:
    try:
        token = Path(file).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise MoorageError(f"token file {file}: cannot be read: {error}") from None
    if not token or not is_token(token):
        what = "holds characters that no token has" if token else "is empty"
        raise MoorageError(f"token file {file}: {what}; put a token there")
    return token
