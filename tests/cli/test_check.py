"""`moorage check`, as people call it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from moorage.cli.main import run
from tests.support.apiserver import RunningApiServer, api_server

NAMESPACES = "/api/v1/namespaces"
DEPLOYMENTS = "/apis/apps/v1/namespaces/moorage-system/deployments"


@pytest.fixture
async def server() -> AsyncIterator[RunningApiServer]:
    """The lab's: it has the kinds of Moorage, and neither rights nor policies nor DaemonSets."""
    async with api_server() as running:
        yield running


class Checked(NamedTuple):
    status: int
    printed: str


Check = Callable[..., Awaitable[Checked]]


@pytest.fixture
def check(server: RunningApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """`moorage check WORDS...` about that server."""
    kubeconfig = str(server.kubeconfig(tmp_path / "kubeconfig"))

    async def checked(*words: str) -> Checked:
        status = await asyncio.to_thread(run, ["check", "--kubeconfig", kubeconfig, *words])
        return Checked(status, capsys.readouterr().out)

    return checked


async def test_whether_it_is_installed_is_found_out(check: Check) -> None:
    """The lab has its kinds without definitions, and the operator without a Deployment."""
    assert await check() == await check("--pre")


async def test_before_an_installation(check: Check) -> None:
    outcome = await check("--pre")
    assert outcome.status == 0
    assert outcome.printed == (
        "pass   Kubernetes    v1.37.2+moorage\n"
        "warn   kube-proxy    kube-system has no object of it; some distributions, such as k3s, run it without; "
        "to do: curl http://127.0.0.1:10249/proxyMode on a node tells its mode\n"
        "warn   your rights   this API server does not say who may do what; to do: nothing, if it lets all in\n"
        "1 pass, 2 warn\n"
    )


async def test_the_behaviour_of_the_lab_is_not_tried(check: Check) -> None:
    outcome = await check("--pre", "--behaviour")
    assert outcome.status == 2
    *lines, counts = outcome.printed.splitlines()
    assert lines[-1].startswith("unknown   behaviour     the lab starts pods again whenever they end")
    assert counts == "1 pass, 2 warn, 1 unknown"


async def test_after_one_what_is_missing_fails(server: RunningApiServer, check: Check) -> None:
    await server.create(NAMESPACES, {"metadata": {"name": "moorage-system"}})
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "x", "image": "moorage:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await server.create(DEPLOYMENTS, {"metadata": {"name": "moorage-operator"}, "spec": spec})
    outcome = await check("--output", "json")
    assert outcome.status == 1
    found = json.loads(outcome.printed)
    assert found["status"] == 1
    assert {each["check"]: each["verdict"] for each in found["checks"]} == {
        "Kubernetes": "pass",
        "CRD externalservices": "warn",
        "CRD moorings": "warn",
        "operator": "fail",
        "leader": "fail",
        "rights of operator": "warn",
        "policy": "warn",
        "node agents": "pass",
        "kube-proxy": "warn",
    }
    (operator,) = (each for each in found["checks"] if each["check"] == "operator")
    assert operator == {
        "check": "operator",
        "verdict": "fail",
        "message": "0 of 1 replicas available",
        "toDo": "kubectl -n moorage-system describe pods -l app.kubernetes.io/component=operator",
    }


def test_a_cluster_that_cannot_be_asked_is_status_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "none")
    assert run(["check", "--kubeconfig", missing]) == 2
    assert capsys.readouterr().out.startswith(f"unknown   API server   kubeconfig {missing}: No such file")
    assert run(["check", "--server", "http://127.0.0.1:1"]) == 2
    assert "Connection refused" in capsys.readouterr().out
    assert run(["check", "--server", "nonsense", "--output", "json"]) == 2
    found: Any = json.loads(capsys.readouterr().out)
    assert (found["status"], found["checks"][0]["verdict"]) == (2, "unknown")


def test_the_kubeconfig_is_kubectl_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert run(["check"]) == 2
    assert f"kubeconfig {tmp_path}/.kube/config: No such file" in capsys.readouterr().out
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mine"))
    assert run(["check"]) == 2
    assert f"kubeconfig {tmp_path}/mine: No such file" in capsys.readouterr().out


def test_the_context_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text("current-context: a\ncontexts: []\nclusters: []\nusers: []\n")
    assert run(["check", "--kubeconfig", str(file), "--context", "b"]) == 2
    assert "no context is named b" in capsys.readouterr().out
