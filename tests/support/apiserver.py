"""The lab's API server in this process, on loopback."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from moorage.cluster.kubeconfig import Config
from moorage.lab.apiserver import credentials
from moorage.lab.apiserver.faults import Faults
from moorage.lab.apiserver.server import ApiServer
from moorage.lab.apiserver.store import Store


class RunningApiServer:
    """A server that answers. `store.compact()` makes older watches expire; `faults` has the other failures:
    `fail(requests, code=..., retry_after=..., method=..., path=...)`, `slow(requests, seconds=...)`,
    `drop_watches()`."""

    def __init__(self, server: ApiServer, config: Config) -> None:
        self.server = server
        self.config = config

    @property
    def store(self) -> Store:
        return self.server.store

    @property
    def faults(self) -> Faults:
        return self.server.faults

    def kubeconfig(self, path: Path) -> Path:
        """A file for `kubectl`."""
        path.write_text(credentials.kubeconfig(self.config.server, self.config.token, self.config.ca))
        return path


@contextlib.asynccontextmanager
async def api_server(
    *, tls: bool = False, token: str | None = "test", **options: Any
) -> AsyncIterator[RunningApiServer]:
    """A server on a free port of 127.0.0.1, over plain HTTP unless `tls`. `options` are those of `ApiServer`."""
    async with ApiServer(token=token, **options) as server:
        if tls:
            issued = credentials.issue()
            with credentials_files(issued) as (certificate, key):
                port = await server.listen("127.0.0.1", 0, credentials.server_context(certificate, key))
            config = Config(server=f"https://127.0.0.1:{port}", token=token, ca=issued.ca)
        else:
            port = await server.listen("127.0.0.1", 0)
            config = Config(server=f"http://127.0.0.1:{port}", token=token)
        yield RunningApiServer(server, config)


@contextlib.contextmanager
def credentials_files(issued: credentials.Certificates) -> Any:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        certificate, key = Path(directory) / "tls.crt", Path(directory) / "tls.key"
        certificate.write_text(issued.certificate)
        key.write_text(issued.key)
        yield certificate, key
