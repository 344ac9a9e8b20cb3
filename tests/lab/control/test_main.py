from pathlib import Path

import msgspec
import pytest

from moorage.api.core_v1 import Pod
from moorage.cli.main import run
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError
from moorage.cluster.recorder import Recorder
from moorage.errors import MoorageError
from moorage_lab.control.main import ApiPodClient, read_plan
from tests.support.apiserver import api_server
from tests.support.lab_objects import cluster

POD = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "one"}]}}
PODS = "/api/v1/namespaces/default/pods"


async def test_reports_on_a_pod_that_is_gone_or_made_again_are_dropped() -> None:
    async with api_server() as server, Client(server.config) as client:
        pods = ApiPodClient(client, Recorder(client, "tests"))
        await server.create(PODS, POD)
        first = await client.get(Pod, "default", "p")
        await pods.finish(first)
        await pods.report(first, {"phase": "Succeeded"})
        await server.create(PODS, POD)
        await pods.report(first, {"phase": "Succeeded"})
        await pods.finish(first)
        again = await client.get(Pod, "default", "p")
        assert again.status.phase != "Succeeded"
        with pytest.raises(ApiError, match="phase"):
            await pods.report(again, {"phase": 5})


def test_the_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(msgspec.json.encode(cluster()))
    assert read_plan(tmp_path / "plan.json", "a") == cluster()


@pytest.mark.parametrize("text", ["", "{}", '{"name": 1}', "no JSON"])
def test_what_is_no_plan_is_refused_with_the_files_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(MoorageError, match=r"plan\.json"):
        read_plan(tmp_path / "plan.json", "a")


def test_another_clusters_plan_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan, config = tmp_path / "plan.json", tmp_path / "kubeconfig"
    plan.write_bytes(msgspec.json.encode(cluster()))
    config.touch()
    argv = ["--kubeconfig", str(config), "--cluster", "b", "--state", str(tmp_path), "--topology", str(plan)]
    assert run(["lab-control", *argv]) == 1
    assert capsys.readouterr().err.splitlines() == [f"moorage: topology {plan}: is of cluster a, not b"]
