"""`moorage operator`: what is wrong with how it is started is one line."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from moorage import log
from moorage.cli import main, operator
from moorage.cluster.kubeconfig import Config
from moorage.operator.config import Configuration
from moorage.operator.main import Options
from tests.support.apiserver import api_server
from tests.support.programs import free_port, moorage_in_a_copy
from tests.support.tenants import kubeconfig_of

MOORAGE = (sys.executable, "-P", "-m", "moorage")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}
    return moorage_in_a_copy(["operator", *words], environ)


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


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Options]]:
    """With which API and options operators were started; they end at once."""
    started: list[tuple[str, Options]] = []

    async def note(api: Config, options: Options) -> None:
        started.append((api.server, options))

    monkeypatch.setattr(operator, "run", note)
    return started


@pytest.fixture
def reachable(tmp_path: Path) -> str:
    """A kubeconfig."""
    path = tmp_path / "kubeconfig"
    path.write_text(kubeconfig_of(Config(server="http://192.0.2.1:6443", token="t")))
    return str(path)


def test_it_is_started_as_it_was_asked_for(
    started: list[tuple[str, Options]], reachable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POD_NAMESPACE", raising=False)
    monkeypatch.delenv("POD_NAME", raising=False)
    (tmp_path / "config.yaml").write_text("workers: 3\n")
    asked = ["--namespace", "ours", "--identity", "me", "--lease", "other", "--listen", "127.0.0.1:9090"]
    taint = ["--startup-taint", "example.com/wait", "--agents", "elsewhere"]
    assert main.run(["operator", "--kubeconfig", reachable]) == 0
    assert main.run(["operator", "--kubeconfig", reachable, "--config", str(tmp_path / "config.yaml"), *asked]) == 0
    assert main.run(["operator", "--kubeconfig", reachable, "--no-leader-election"]) == 0
    assert main.run(["operator", "--kubeconfig", reachable, *taint]) == 0
    options = Options(Configuration(), None, None, "moorage-operator", (None, 8080))
    assert started == [
        ("http://192.0.2.1:6443", options),
        ("http://192.0.2.1:6443", Options(Configuration(workers=3), "ours", "me", "other", ("127.0.0.1", 9090))),
        ("http://192.0.2.1:6443", options._replace(lease=None)),
        ("http://192.0.2.1:6443", options._replace(startup_taint="example.com/wait", agents="elsewhere")),
    ]


@pytest.mark.parametrize(
    ("words", "config", "chosen"),
    [
        ([], None, log.Chosen("info", json=False)),
        (["--log-json"], None, log.Chosen("info", json=True)),
        ([], "", log.Chosen("info", json=True)),
        ([], "logLevel: warning\nlogFormat: text\n", log.Chosen("warning", json=False)),
        (["-v"], "logLevel: warning\nlogFormat: text\n", log.Chosen("debug", json=False)),
    ],
)
@pytest.mark.usefixtures("started")
def test_how_it_logs_is_in_its_configuration_where_there_is_one(
    words: list[str], config: str | None, chosen: log.Chosen, reachable: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    if config is not None:
        file.write_text(config)
    more = [] if config is None else ["--config", str(file)]
    assert main.run([*words, "operator", "--kubeconfig", reachable, *more]) == 0
    assert log.chosen() == chosen


@pytest.mark.usefixtures("started")
def test_a_directory_is_no_file_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--config", "--kubeconfig"):
        assert main.run(["operator", option, str(tmp_path)]) == 2
        assert "is a directory" in capsys.readouterr().err


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
