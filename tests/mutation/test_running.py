"""Changes are tried in a copy, within bounds, and leave nothing behind."""

import math
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mutation import running
from mutation.operators import mutants
from mutation.running import MutationError, copied, sleeps
from mutation.sample import Trial

MODULE = Path("src/moorage/core/x.py")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one module and its test, which needs no plugin."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    files = {
        MODULE: "def f(a):\n    while a > 7:\n        a = a - 8\n    return a\n\n\ndef g(a):\n    return a and 0\n",
        Path("src/moorage/__init__.py"): "",
        Path("src/moorage/core/__init__.py"): "",
        Path("tests/core/test_x.py"): "from moorage.core.x import f\n\n\ndef test_f():\n    assert f(12) == 4\n",
        Path(".gitignore"): "ignored\n",
        Path("ignored"): "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def changes(root: Path, *words: str) -> list[Trial]:
    return [Trial(MODULE, each) for each in mutants((root / MODULE).read_text()) if each.change in words]


def test_what_a_test_notices_does_not_survive_and_what_none_notices_does(root: Path) -> None:
    with copied(root) as copy:
        copy.check()
        [turned] = changes(root, "the condition is turned round")
        assert not copy.survives(turned)
        [unseen] = changes(root, "and becomes or")
        assert copy.survives(unseen)
        assert (copy.root / MODULE).read_text() == (root / MODULE).read_text()


def test_the_work_tree_is_not_touched_and_the_copy_goes(root: Path) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    with copied(root) as copy:
        assert not (copy.root / "ignored").exists()
        for each in changes(root, "> becomes >=", "and becomes or"):
            copy.survives(each)
        assert not copy.root.is_relative_to(root)
    assert not copy.root.exists()
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_a_change_that_makes_tests_run_without_end_is_noticed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "GRACE_SECONDS", 0.0)
    with copied(root) as copy:
        for each in changes(root, "- becomes +"):
            assert not copy.survives(each)


@pytest.mark.parametrize("wait", ["threading.Event().wait()", 'subprocess.run(["sleep", "600"])'])
def test_a_change_that_makes_tests_wait_without_end_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch, wait: str
) -> None:
    monkeypatch.setattr(running, "MAX_ASLEEP_SECONDS", 1.0)
    test = f"from moorage.core.x import g\nimport subprocess, threading\n\n\ndef test_g():\n    g(1) and {wait}\n"
    (root / "tests/core/test_x.py").write_text(test)
    with copied(root) as copy:
        [waits] = changes(root, "and becomes or")
        assert not copy.survives(waits)


@pytest.mark.parametrize("of_a_shell", [False, True])
def test_a_process_that_is_only_kept_from_running_does_not_sleep(of_a_shell: bool) -> None:
    program = "print(flush=True); input(); print(flush=True)\nwhile True: pass"
    argv = [sys.executable, "-c", program]
    if of_a_shell:
        argv = ["sh", "-c", f"{shlex.join(argv)}; true"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            process.stdout.readline()
            ends = time.monotonic() + 20
            while not sleeps(process.pid):
                assert time.monotonic() < ends
                time.sleep(0.05)
            process.stdin.write(b"\n")
            process.stdin.flush()
            process.stdout.readline()
            assert not any(sleeps(process.pid) for _ in range(200))
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_a_change_that_makes_tests_collect_without_end_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "MAX_BYTES", 256 << 20)
    test = "from moorage.core.x import g\n\n\ndef test_g():\n    bytearray(g(1) * (1 << 29))\n"
    (root / "tests/core/test_x.py").write_text(test)
    with copied(root) as copy:
        [collects] = changes(root, "and becomes or")
        assert not copy.survives(collects)


def test_what_tests_have_started_ends_with_them(root: Path, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    test = f"""
import pathlib, subprocess
def test_f():
    child = subprocess.Popen(["sleep", "600"])
    pathlib.Path({str(noted)!r}).write_text(str(child.pid))
    assert False
"""
    (root / "tests/core/test_x.py").write_text(test)
    with copied(root) as copy:
        assert not copy._pass(["tests/core"], math.inf)
    ends = time.monotonic() + 20
    while running_still(int(noted.read_text())):
        assert time.monotonic() < ends
        time.sleep(0.05)


def running_still(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_tests_that_fail_without_a_change_are_no_measure(root: Path) -> None:
    (root / "tests/core/test_x.py").write_text("def test_f():\n    assert False\n")
    with copied(root) as copy, pytest.raises(MutationError) as caught:
        copy.survives(changes(root, "and becomes or")[0])
    first, second = str(caught.value).splitlines()
    assert first == "tests/core/test_x.py: fails without any change; mend that first"
    assert second.startswith("FAILED tests/core/test_x.py::test_f")


def test_a_copy_whose_tests_would_run_other_code_is_refused(root: Path) -> None:
    (root / "src/moorage/__init__.py").unlink()
    (root / "src/moorage/core/__init__.py").unlink()
    (root / MODULE).unlink()
    with copied(root) as copy, pytest.raises(MutationError, match="tests of the copy would run"):
        copy.check()
