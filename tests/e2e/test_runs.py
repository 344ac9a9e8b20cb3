"""Records of runs, and what is removed when a run has died."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.harness import runs
from e2e.harness.errors import HarnessError

_DIES = """
import os, sys
from pathlib import Path
from e2e.harness import runs
runs.BASE, runs.CGROUPS = Path(sys.argv[1]), Path(sys.argv[2])
run = runs.Run("dead")
run.open()
(run.directory / "file").touch()
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "BASE", tmp_path / "base")
    monkeypatch.setattr(runs, "CGROUPS", tmp_path / "cgroups")
    (tmp_path / "cgroups" / "cpu").mkdir(parents=True)
    return tmp_path / "base"


def die(base: Path) -> None:
    argv = [sys.executable, "-c", _DIES, str(base), str(runs.CGROUPS)]
    assert subprocess.run(argv, cwd=Path(__file__).parents[2], check=False).returncode == -9


def test_a_run_that_ends_leaves_neither_directory_nor_record(base: Path) -> None:
    run = runs.Run("x")
    run.open()
    assert run.directory.is_dir()
    (run.directory / "file").touch()
    run.close()
    assert list(base.iterdir()) == []


def test_a_directory_that_is_removed_late_is_removed_all_the_same(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine may take minutes for the files of several nodes."""
    run = runs.Run("x")
    run.open()
    seconds = iter(range(0, 1_000_000, 1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    run.close()
    assert list(base.iterdir()) == []


def test_what_a_dead_run_left_is_removed_and_a_live_one_s_is_not(base: Path) -> None:
    live = runs.Run("live")
    live.open()
    die(base)
    assert len(list(base.iterdir())) == 4
    (cleaned,) = runs.clean()
    assert cleaned.startswith("moorage-e2e-dead-")
    assert sorted(path.name for path in base.iterdir()) == [live.name, f"{live.name}.json"]
    live.close()


def test_one_process_has_several_runs_at_once(base: Path) -> None:
    one, other = runs.Run("x"), runs.Run("x")
    one.open()
    other.open()
    one.close()
    assert other.directory.is_dir()
    other.close()
    assert list(base.iterdir()) == []


def test_the_next_run_cleans_up(base: Path) -> None:
    die(base)
    run = runs.Run("next")
    run.open()
    assert sorted(path.name for path in base.iterdir()) == [run.name, f"{run.name}.json"]
    run.close()


def test_cgroups_of_a_dead_run_go_the_innermost_first(base: Path) -> None:
    die(base)
    (record,) = base.glob("*.json")
    (runs.CGROUPS / "cpu" / record.stem / "node" / "pod").mkdir(parents=True)
    (runs.CGROUPS / "cpu" / "somebody-else-s").mkdir()
    runs.clean()
    assert [path.name for path in (runs.CGROUPS / "cpu").iterdir()] == ["somebody-else-s"]


def test_a_directory_of_somebody_else_is_not_used(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir()
    owner = base.stat().st_uid
    monkeypatch.setattr("os.geteuid", lambda: owner + 1)
    with pytest.raises(HarnessError, match="belongs to somebody else"):
        runs.Run("x").open()
