"""The server as a process, as the lab starts it."""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from moorage.api.core_v1 import Namespace
from moorage.cluster import kubeconfig
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from tests.support.programs import BOUND_SECONDS, MOORAGE, moorage_in_a_copy


@contextlib.asynccontextmanager
async def process(*arguments: str, pass_fds: tuple[int, ...] = ()) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(*MOORAGE, "lab-apiserver", *arguments, pass_fds=pass_fds)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()


async def written(file: Path) -> kubeconfig.Config:
    """The kubeconfig that a server writes once it listens, at most BOUND_SECONDS from now."""
    async with asyncio.timeout(BOUND_SECONDS):
        while True:
            with contextlib.suppress(MoorageError):
                return kubeconfig.load(file)
            await asyncio.sleep(0.02)


async def namespaces(config: kubeconfig.Config) -> list[str]:
    async with Client(config) as client:
        return [item.metadata.name for item in (await client.list(Namespace)).items]


async def test_it_makes_its_credentials_and_ends_on_sigterm(tmp_path: Path) -> None:
    directory = tmp_path / "server"
    async with process("--directory", str(directory), "--cluster", "a") as started:
        config = await written(directory / "kubeconfig")
        assert config.server.startswith("https://127.0.0.1:")
        assert config.token
        assert await namespaces(config) == ["default", "kube-system"]
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()}
        assert modes == dict.fromkeys(("ca.crt", "tls.crt", "tls.key", "kubeconfig"), 0o600)
        started.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(started.wait(), BOUND_SECONDS) == 0


async def test_it_serves_an_inherited_socket_and_an_address_at_once(tmp_path: Path) -> None:
    directory, outside = tmp_path / "server", tmp_path / "outside.kubeconfig"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        arguments = ["--address", "127.0.0.1", "--socket-fd", str(listener.fileno()), "--directory", str(directory)]
        arguments += ["--kubeconfig", str(outside), f"https://127.0.0.1:{port}", "--service-range", "fd00::/112"]
        async with process(*arguments, pass_fds=(listener.fileno(),)):
            inside = await written(directory / "kubeconfig")
            there = await written(outside)
            assert there.server == f"https://127.0.0.1:{port}"
            assert inside.server != there.server
            assert await namespaces(inside) == await namespaces(there)


async def test_it_serves_plain_http_with_a_token_from_the_environment(tmp_path: Path) -> None:
    directory = tmp_path / "server"
    os.environ["MOORAGE_LAB_TOKEN"] = "secret"
    try:
        async with process("--plain", "--directory", str(directory)):
            config = await written(directory / "kubeconfig")
    finally:
        del os.environ["MOORAGE_LAB_TOKEN"]
    assert (config.token, config.server[:5]) == ("secret", "http:")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return moorage_in_a_copy(["lab-apiserver", *arguments], os.environ)


def test_what_it_cannot_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("--plain", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot listen on 127.0.0.1 port" in done.stderr
    for arguments in (["--service-range", "nope"], ["--socket-fd", "0"]):
        done = run("--plain", *arguments)
        assert done.returncode == 1
        assert len(done.stderr.strip().split("\n")) == 1
    assert run().returncode == 2
