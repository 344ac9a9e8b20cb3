"""The set-up's scripts and the Makefile, with programs of the machine replaced where they would change it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUND = 30
"""Seconds that a script here may take."""
MADE_FROM = ("requirements.lock", "pyproject.toml", "lab/pyproject.toml", "scripts/setup", "scripts/packages")
"""What `.venv` is made from."""
Stub = Callable[[str, str], None]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory that is searched before the machine's."""
    directory = tmp_path / "bin"
    directory.mkdir()
    return directory


@pytest.fixture
def stub(programs: Path) -> Stub:
    """Puts a shell script in a program's place."""

    def install(name: str, script: str) -> None:
        write(programs / name, script)

    return install


def write(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def run(*command: str | Path, programs: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.environ["PATH"] if programs is None else f"{programs}:{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        command,
        env={**inherited, "PATH": path, **environment},
        input="something that nobody reads",
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )


def packages(programs: Path) -> subprocess.CompletedProcess[str]:
    """scripts/packages where only python3-venv is missing."""
    return run(ROOT / "scripts" / "packages", programs=programs, PYTHON="false")


def test_packages_that_are_there_are_not_asked_for(programs: Path, stub: Stub) -> None:
    stub("apt-get", "echo asked; exit 1")
    done = run(ROOT / "scripts" / "packages", programs=programs, PYTHON=sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_may_not_install_is_told_the_command_in_one_line(programs: Path, stub: Stub) -> None:
    stub("id", "echo 1000")
    stub("sudo", "exit 1")
    done = packages(programs)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "moorage: packages are missing; install them with: "
        "sudo apt-get update && sudo apt-get install -y python3-venv\n"
    )


def test_root_gets_the_missing_packages_without_a_question(tmp_path: Path, programs: Path, stub: Stub) -> None:
    stub("id", "echo 0")
    stub("apt-get", f'echo "$DEBIAN_FRONTEND $*" >>{tmp_path}/calls; cat >>{tmp_path}/input')
    done = packages(programs)
    assert done.returncode == 0
    assert done.stderr == "moorage: installing python3-venv with apt-get\n"
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("noninteractive ")
    assert call.endswith(" install -y --no-install-recommends python3-venv")
    assert (tmp_path / "input").read_text() == ""


def test_a_user_whose_sudo_asks_for_nothing_gets_them_too(tmp_path: Path, programs: Path, stub: Stub) -> None:
    stub("id", "echo 1000")
    stub("sudo", '[ "$1" = -n ] && shift && exec "$@"')
    stub("apt-get", f'echo "$*" >>{tmp_path}/calls')
    assert packages(programs).returncode == 0
    assert (tmp_path / "calls").read_text().endswith("python3-venv\n")


def test_package_lists_are_brought_up_to_date_where_the_packages_are_not_in_them(
    tmp_path: Path, programs: Path, stub: Stub
) -> None:
    stub("id", "echo 0")
    stub("apt-get", f'case "$*" in *update) touch {tmp_path}/updated;; *) test -e {tmp_path}/updated;; esac')
    done = packages(programs)
    assert done.returncode == 0
    assert (tmp_path / "updated").exists()


def test_apt_get_s_own_words_are_shown_where_it_fails(programs: Path, stub: Stub) -> None:
    stub("id", "echo 0")
    stub("apt-get", "echo E: no such package; exit 100")
    done = packages(programs)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-2:] == [
        "E: no such package",
        "moorage: apt-get failed; install these packages by hand: python3-venv",
    ]


def test_a_machine_without_apt_get_is_told_the_names_in_one_line(programs: Path) -> None:
    for tool in ("bash", "id"):
        (programs / tool).symlink_to(shutil.which(tool) or tool)
    done = run(ROOT / "scripts" / "packages", PATH=str(programs), PYTHON="false")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("moorage: missing: python3-venv ")
    assert line.endswith("install them with this system's package manager")


@pytest.mark.parametrize(("purpose", "package"), [("bench", "gcc"), ("e2e", "etcd-server")])
def test_what_only_some_targets_need_is_asked_for_by_these_alone(programs: Path, purpose: str, package: str) -> None:
    for tool in ("bash", "id"):
        (programs / tool).symlink_to(shutil.which(tool) or tool)
    asked = {
        arguments: run(ROOT / "scripts" / "packages", *arguments, PATH=str(programs), PYTHON="false").stderr
        for arguments in ((), (purpose,))
    }
    assert package in asked[purpose,]
    assert package not in asked[()]


def test_an_old_python_is_one_line(programs: Path, stub: Stub) -> None:
    stub("python3.9", "echo 3.9 False")
    done = run(ROOT / "scripts" / "setup", programs=programs, PYTHON="python3.9")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "moorage: python3.9 is Python 3.9; Moorage needs 3.11 or newer: "
        "name one with make PYTHON=/path/to/python3.11\n"
    )


def test_no_python_is_one_line(programs: Path) -> None:
    done = run(ROOT / "scripts" / "setup", programs=programs, PYTHON="python3.0")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


class Checkout:
    """A copy of what `make` looks at, with a virtual environment that looks ready."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("Makefile", *MADE_FROM):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        write(root / ".venv/bin/moorage", 'echo "moorage $*"')
        (root / ".venv/.ready").write_text(f"{root.resolve()}\n")

    def needs_set_up(self) -> bool:
        done = run("make", "-q", "-C", self.root, ".venv/.ready")
        assert done.returncode in (0, 1), done.stderr
        return done.returncode == 1

    def demo(self, *arguments: str) -> str:
        done = run("make", "--no-print-directory", "-C", self.root, "demo", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_a_second_run_does_no_set_up(checkout: Checkout) -> None:
    assert not checkout.needs_set_up()
    assert checkout.demo() == "moorage demo\n"


def test_the_demo_is_left_up_on_demand(checkout: Checkout) -> None:
    assert checkout.demo("KEEP=1") == "moorage demo --keep\n"
    assert checkout.demo("KEEP=0") == "moorage demo\n"


@pytest.mark.parametrize("file", MADE_FROM)
def test_a_change_of_what_it_is_made_from_is_noticed(checkout: Checkout, file: str) -> None:
    ready = (checkout.root / ".venv/.ready").stat().st_mtime
    os.utime(checkout.root / file, (ready + 1, ready + 1))
    assert checkout.needs_set_up()


def test_a_moved_checkout_is_noticed(checkout: Checkout, tmp_path: Path) -> None:
    checkout.root = checkout.root.rename(tmp_path / "moved")
    assert checkout.needs_set_up()


def test_a_broken_environment_is_noticed(checkout: Checkout) -> None:
    write(checkout.root / ".venv/bin/moorage", "exit 1")
    assert checkout.needs_set_up()


@pytest.mark.parametrize(
    ("closing_line", "status", "expected"),
    [
        ("2 passed in 0.1s", 0, 0),
        ("2 passed, 1 skipped in 0.1s", 0, 0),
        ("=== 12 passed in 0.1s ===", 0, 0),
        ("3 skipped in 0.1s", 0, 1),
        ("no tests ran in 0.1s", 0, 1),
        ("1 failed, 2 passed in 0.1s", 1, 2),
    ],
)
def test_continuous_integration_fails_unless_a_test_passed_and_none_failed(
    tmp_path: Path, closing_line: str, status: int, expected: int
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    good, this = 'echo "1 passed"', f'echo "{closing_line}"; exit {status}'
    for test, e2e in ((this, good), (good, this)):
        (tmp_path / "Makefile").write_text(f"test:\n\t@{test}\ne2e:\n\t@{e2e}\n")
        done = run(tmp_path / ".ci/run")
        assert done.returncode == expected
        assert closing_line in done.stdout.splitlines()
