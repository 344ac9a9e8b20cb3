"""The set-up's scripts and the Makefile, with programs of the machine replaced where they would change it."""

import fcntl
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BOUND_SECONDS = 30
"""Seconds that a script here may take."""
MADE_FROM = ("lab/run.lock", "pyproject.toml", "lab/pyproject.toml", "scripts/setup", "scripts/packages")
"""What the demo's `.venv` is made from. Tests need what is in `requirements.lock`, too."""
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
        timeout=BOUND_SECONDS,
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


@pytest.mark.parametrize(("purpose", "package"), [("dev", "lua5.1"), ("bench", "gcc"), ("e2e", "etcd-server")])
def test_what_only_some_targets_need_is_asked_for_by_these_alone(programs: Path, purpose: str, package: str) -> None:
    for tool in ("bash", "id"):
        (programs / tool).symlink_to(shutil.which(tool) or tool)
    asked = {
        arguments: run(ROOT / "scripts" / "packages", *arguments, PATH=str(programs), PYTHON="false").stderr
        for arguments in ((), (purpose,))
    }
    assert package in asked[purpose,]
    assert package not in asked[()]


def test_an_old_python_is_one_line(checkout: "Checkout", programs: Path, stub: Stub) -> None:
    stub("python3.9", "echo 3.9 False")
    done = run(checkout.root / "scripts" / "setup", programs=programs, PYTHON="python3.9")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "moorage: python3.9 is Python 3.9; Moorage needs 3.11 or newer: "
        "name one with make PYTHON=/path/to/python3.11\n"
    )


def test_no_python_is_one_line(checkout: "Checkout", programs: Path) -> None:
    done = run(checkout.root / "scripts" / "setup", programs=programs, PYTHON="python3.0")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


PYTHON = """
case "$1 $2" in
"-c "*) echo "3.12 True" ;;
"-m venv")
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    printf '#!/bin/sh\\necho "moorage $*"\\n' >.venv/bin/moorage
    chmod +x .venv/bin/moorage
    echo venv >>calls
    ;;
"-m pip")
    echo "$*" >>calls
    case "$*" in *--editable*) exit ;; esac
    test ! -e broken || { echo "ERROR: no such package" >&2; exit 1; }
    for name in $(seq 25); do echo "Collecting package$name==1.0 (from -r some.lock (line $name))"; done
    echo "Installing collected packages: package1, package2"
    ;;
esac
"""
"""Does nothing that takes time, and writes down what was asked of it."""


class Checkout:
    """A copy of what `make` looks at, where the set-up is done by `PYTHON`."""

    def __init__(self, root: Path, python: Path) -> None:
        self.root, self.python = root, python
        for name in ("Makefile", "requirements.lock", *MADE_FROM):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)

    def setup(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(self.root / "scripts/setup", *words, PYTHON=str(self.python))

    def calls(self) -> list[str]:
        """What the set-up asked of Python since this was last looked at."""
        file = self.root / "calls"
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return found

    def demo(self, *arguments: str) -> str:
        done = run("make", "--no-print-directory", "-C", self.root, "demo", f"PYTHON={self.python}", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def checkout(tmp_path: Path, programs: Path, stub: Stub) -> Checkout:
    stub("python3.12", PYTHON)
    return Checkout(tmp_path / "checkout", programs / "python3.12")


def test_the_demo_gets_what_runs_it_and_tests_get_the_rest(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    venv, packages, moorage = checkout.calls()
    assert venv == "venv"
    assert re.findall(r"--requirement=(\S+)", packages) == ["lab/run.lock"]
    assert "--require-hashes" in packages
    assert moorage.endswith("--editable . --editable ./lab")
    assert checkout.setup("dev").returncode == 0
    packages, moorage = checkout.calls()
    assert re.findall(r"--requirement=(\S+)", packages) == ["requirements.lock"]
    assert checkout.setup().returncode == checkout.setup("dev").returncode == 0
    assert checkout.calls() == []


def test_what_tests_need_has_what_the_demo_needs(checkout: Checkout) -> None:
    assert checkout.setup("dev").returncode == 0
    checkout.calls()
    assert checkout.setup().stderr == ""
    assert checkout.calls() == []


def test_every_step_of_the_set_up_is_a_line_on_standard_error(checkout: Checkout) -> None:
    done = checkout.setup()
    assert done.stdout == ""
    first, *steps, last = done.stderr.splitlines()
    assert re.fullmatch(r"moorage: setting up \.venv with what runs Moorage \(.*\)", first)
    assert [step.removeprefix("moorage: ").split()[0] for step in steps] == [
        "making",
        "fetching",
        "package",
        "unpacking",
    ]
    assert re.fullmatch(r"moorage: ready, after \d+ seconds", last)


def test_on_a_terminal_packages_are_counted_in_one_line(checkout: Checkout) -> None:
    screen, terminal = pty.openpty()
    try:
        subprocess.run(
            [checkout.root / "scripts/setup"],
            env={**os.environ, "PYTHON": str(checkout.python)},
            stderr=terminal,
            timeout=BOUND_SECONDS,
            check=True,
        )
        lines = os.read(screen, 1 << 16).decode().split("\n")
    finally:
        os.close(terminal)
        os.close(screen)
    (counted,) = (line for line in lines if " 25 of " in line)
    assert re.findall(r"package (\d+) of \d+: package\1", counted) == [str(n) for n in range(1, 26)]


def test_a_second_run_does_no_set_up(checkout: Checkout) -> None:
    assert checkout.demo() == "moorage demo\n"
    assert len(checkout.calls()) == 3
    assert checkout.demo() == "moorage demo\n"
    assert checkout.calls() == []


def test_two_at_once_do_the_work_once(checkout: Checkout) -> None:
    with (checkout.root / "scripts/setup").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = subprocess.Popen(
            [checkout.root / "scripts/setup"],
            env={**os.environ, "PYTHON": str(checkout.python)},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert second.stderr is not None
        waiting = second.stderr.readline()
        (checkout.root / "scripts/setup").rename(checkout.root / "scripts/locked")
        shutil.copy(checkout.root / "scripts/locked", checkout.root / "scripts/setup")
        assert checkout.setup().returncode == 0
        assert len(checkout.calls()) == 3
    assert second.communicate(timeout=BOUND_SECONDS)[1] == ""
    assert (waiting, second.returncode) == ("moorage: waiting for another make, which is setting up\n", 0)
    assert checkout.calls() == []


def test_the_demo_is_left_up_on_demand(checkout: Checkout) -> None:
    assert checkout.demo("KEEP=1") == "moorage demo --keep\n"
    assert checkout.demo("KEEP=0") == "moorage demo\n"


@pytest.mark.parametrize("file", MADE_FROM)
def test_a_change_of_what_the_demo_s_environment_is_made_from_is_noticed(checkout: Checkout, file: str) -> None:
    checkout.setup()
    checkout.calls()
    with (checkout.root / file).open("a") as changed:
        changed.write("# more\n")
    assert checkout.setup().returncode == 0
    assert len(checkout.calls()) == 2


def test_a_change_of_what_tests_need_is_noticed_by_these_alone(checkout: Checkout) -> None:
    checkout.setup()
    checkout.setup("dev")
    checkout.calls()
    with (checkout.root / "requirements.lock").open("a") as changed:
        changed.write("# more\n")
    checkout.setup()
    assert checkout.calls() == []
    checkout.setup("dev")
    assert len(checkout.calls()) == 2


def test_a_moved_checkout_is_made_anew(checkout: Checkout, tmp_path: Path) -> None:
    checkout.setup()
    checkout.calls()
    checkout.root = checkout.root.rename(tmp_path / "moved")
    assert checkout.setup().returncode == 0
    assert checkout.calls()[0] == "venv"


def test_a_broken_environment_is_made_anew(checkout: Checkout) -> None:
    checkout.setup()
    checkout.calls()
    write(checkout.root / ".venv/bin/moorage", "exit 1")
    assert checkout.setup().returncode == 0
    assert checkout.calls()[0] == "venv"


def test_what_pip_cannot_install_is_asked_for_again_the_next_time(checkout: Checkout) -> None:
    (checkout.root / "broken").touch()
    done = checkout.setup()
    assert done.returncode == 1
    error, advice = done.stderr.splitlines()[-2:]
    assert error == "ERROR: no such package"
    assert advice.startswith("moorage: pip could not install what ")
    checkout.calls()
    (checkout.root / "broken").unlink()
    assert checkout.setup().returncode == 0
    assert len(checkout.calls()) >= 2


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
