"""Cgroups of nodes."""

from pathlib import Path

import pytest

from e2e.harness import cgroups
from e2e.harness.errors import HarnessError


@pytest.fixture(autouse=True)
def top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroups, "CGROUPS", tmp_path)
    return tmp_path


def test_a_node_has_a_group_of_its_own_in_every_hierarchy_of_version_1(top: Path) -> None:
    (top / "memory").mkdir()
    (top / "pids").mkdir()
    assert cgroups.make("run", "node") == "/run/node"
    assert sorted(str(path.relative_to(top)) for path in top.glob("*/*/*")) == ["memory/run/node", "pids/run/node"]


def test_a_machine_where_groups_cannot_be_made_is_told_what_is_needed(top: Path) -> None:
    (top / "cgroup.controllers").write_text("cpu memory\n")
    # An ordinary directory has no cgroup.controllers of its own, as a cgroup would.
    with pytest.raises(HarnessError, match="controllers cpu, cpuset, memory and pids"):
        cgroups.make("run", "node")


def test_version_2_hands_on_the_controllers_that_pods_need(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Path.mkdir

    def make_as_the_kernel_does(path: Path, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        make(path, parents=parents, exist_ok=exist_ok)
        if path != top:
            (path / "cgroup.controllers").write_text("cpu memory\n")

    monkeypatch.setattr(Path, "mkdir", make_as_the_kernel_does)
    (top / "cgroup.controllers").write_text("cpu hugetlb memory\n")
    cgroups.make("run", "node")
    for group in (top, top / "run", top / "run" / "node"):
        assert (group / "cgroup.subtree_control").read_text() == "+cpu +memory"
