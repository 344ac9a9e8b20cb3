"""Directories of labs: whose they are, which run, and what killed ones left."""

import os
import stat
import threading
from pathlib import Path

import pytest

from moorage.errors import MoorageError
from moorage_lab import state, topology
from moorage_lab.state import LabDirectory, LabState


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "moorage"


def a_state(name: str) -> LabState:
    return LabState(name=name, pid=os.getpid(), init_pid=1, plan=topology.plan({"a": 1}))


def test_a_lab_is_listed_while_its_directory_is_held() -> None:
    directory = LabDirectory.claim("one")
    assert state.labs() == []
    directory.write(a_state("one"))
    assert state.labs() == [(a_state("one"), directory.path)]
    directory.remove()
    assert state.labs() == []
    assert not directory.path.exists()


def test_a_name_is_refused_while_its_lab_runs() -> None:
    directory = LabDirectory.claim("one")
    with pytest.raises(MoorageError, match=r"^lab one is running; end it with: moorage lab stop one, or give"):
        LabDirectory.claim("one")
    directory.remove()
    LabDirectory.claim("one").remove()


def test_listing_does_not_keep_labs_from_starting() -> None:
    stop = threading.Event()

    def list_all() -> None:
        while not stop.is_set():
            state.labs()

    lister = threading.Thread(target=list_all)
    lister.start()
    try:
        for _ in range(200):
            LabDirectory.claim("one").remove()
    finally:
        stop.set()
        lister.join()


def test_what_a_killed_lab_left_is_removed_by_a_listing(runtime: Path) -> None:
    leave_behind(runtime)
    assert state.labs() == []
    assert not (runtime / "one").exists()


def test_what_a_killed_lab_left_is_emptied_by_the_next_of_its_name(runtime: Path) -> None:
    leave_behind(runtime)
    directory = LabDirectory.claim("one")
    assert sorted(entry.name for entry in directory.path.iterdir()) == ["lock", "logs"]
    assert list((directory.path / "logs").iterdir()) == []
    directory.remove()


def leave_behind(runtime: Path) -> None:
    (runtime / "one" / "logs").mkdir(parents=True)
    runtime.chmod(0o700)
    for name in ("lock", "lab.json", "a.kubeconfig", "logs/old"):
        (runtime / "one" / name).write_text("")


def test_only_the_user_can_read_what_is_written() -> None:
    directory = LabDirectory.claim("one")
    file = directory.write_file("a.kubeconfig", "secret")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    directory.remove()


@pytest.mark.parametrize("bad", ["mode", "link"])
def test_a_directory_that_somebody_else_can_use_is_refused(runtime: Path, bad: str) -> None:
    if bad == "mode":
        runtime.mkdir()
        runtime.chmod(0o770)
    else:
        other = runtime.with_name("other")
        other.mkdir(mode=0o700)
        runtime.symlink_to(other)
    with pytest.raises(MoorageError, match=r"must be a directory of yours that nobody else can use"):
        state.root()


def test_without_a_runtime_directory_it_is_one_of_this_user_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert state.root() == tmp_path / f"moorage-{os.geteuid()}"


def test_a_lab_is_found_by_name_or_because_it_is_the_only_one() -> None:
    with pytest.raises(MoorageError, match=r"^no lab is running; start one with: moorage lab run"):
        state.find(None)
    one = LabDirectory.claim("one")
    one.write(a_state("one"))
    assert state.find(None)[0].name == "one"
    two = LabDirectory.claim("two")
    two.write(a_state("two"))
    assert state.find("two")[0].name == "two"
    with pytest.raises(MoorageError, match=r"^several labs are running \(one, two\); say which one with --name"):
        state.find(None)
    with pytest.raises(MoorageError, match=r"^no lab three is running"):
        state.find("three")
    one.remove()
    two.remove()


def test_a_name_that_is_in_use_gets_a_number() -> None:
    assert state.free_name("demo") == "demo"
    kept = [LabDirectory.claim(name) for name in ("demo", "demo2")]
    for each, name in zip(kept, ("demo", "demo2"), strict=True):
        each.write(a_state(name))
    assert state.free_name("demo") == "demo3"
    for each in kept:
        each.remove()


@pytest.mark.parametrize("name", ["", "-a", "A", "a/b", "..", "a" * 64])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(MoorageError, match=r"its name must be"):
        LabDirectory.claim(name)
