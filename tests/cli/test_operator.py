"""`moorage operator`: what is wrong with how it is started is one line."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.apiserver import api_server
from tests.support.programs import free_port

MOORAGE = (sys.executable, "-P", "-m", "moorage")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    argv = [*MOORAGE, "operator", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environ)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "moorage: in-cluster configuration: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set"),
        (("--kubeconfig", "none"), "moorage: kubeconfig none: No such file or directory"),
        (("--config", "none"), "moorage: configuration none: cannot be read: No such file or directory"),
        (("--listen", "http"), "moorage: --listen http: write HOST:PORT"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(words: tuple[str, ...], message: str) -> None:
    done = run(*words)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert len(done.stderr.splitlines()) == 1


async def test_it_logs_json_lines_and_ends_well_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("logLevel: info\n")
    async with api_server() as server:
        kubeconfig = server.kubeconfig(tmp_path / "kubeconfig")
        process = await asyncio.create_subprocess_exec(
            *(*MOORAGE, "operator", "--kubeconfig", str(kubeconfig), "--config", str(tmp_path / "config.yaml")),
            *("--listen", f"127.0.0.1:{free_port()}"),
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stderr is not None
        events = []
        async with asyncio.timeout(30):
            async for line in process.stderr:
                events.append(json.loads(line)["event"])
                if events[-1] == "everything has been read":
                    process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert events[0] == "the operator is up"
    assert events[-1] == "stopping; Services and their endpoints stay as they are"
