from pathlib import Path

import msgspec
import pytest

from moorage.cli.main import run
from moorage.errors import MoorageError
from moorage.lab.control.main import read_plan
from tests.support.lab_objects import cluster


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
