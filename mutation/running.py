"""Tries changes in a copy of the repository: the work tree is never touched."""

import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mutation.sample import Trial, suites_of

# Tests that hang have noticed the change. They are not told by the clock: on a busy machine all tests take long.
GRACE_SECONDS = 30.0
"""Of a processor, which a process may use beyond what the tests use without a change."""
MAX_SLOWDOWN = 3.0
"""How many times as much of a processor it may use as the tests without a change."""
MAX_BYTES = 4 << 30
"""Of memory, which a process may use: a loop without an end may collect without an end."""
LOOK_SECONDS = 0.25
MAX_ASLEEP_SECONDS = 30.0
"""For which nothing that was started asks for a processor or a disk: no test waits that long for what happens."""


class MutationError(Exception):
    """The tests cannot be run, or fail as they are."""


class Copy:
    """A copy of the repository, whose code its tests run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._output = root / ".pytest_output"
        self._seconds: dict[tuple[str, ...], float] = {}
        """Of a processor, which tests used without a change."""

    def survives(self, trial: Trial) -> bool:
        """Whether no test notices this change. Raises MutationError where tests fail without it."""
        return all(self._unnoticed(trial, tests) for tests in suites_of(self.root, trial.module))

    def _unnoticed(self, trial: Trial, tests: list[str]) -> bool:
        bound = self._bound(tests)
        path = self.root / trial.module
        source = path.read_text()
        path.write_text(trial.mutant.of(source))
        try:
            return self._pass(tests, bound)
        finally:
            path.write_text(source)

    def _bound(self, tests: list[str]) -> float:
        """The seconds of a processor that each process of these tests may use."""
        key = tuple(tests)
        if key not in self._seconds:
            before = _seconds_of_children()
            if not self._pass(tests, math.inf):
                raise MutationError(f"{' '.join(tests)}: fails without any change; mend that first\n{self._said()}")
            self._seconds[key] = _seconds_of_children() - before
        return self._seconds[key] * MAX_SLOWDOWN + GRACE_SECONDS

    def _pass(self, tests: list[str], seconds: float) -> bool:
        """Whether these tests pass, and do not hang. What they have started ends with them."""
        # The time-out of a single test is there for a person who waits.
        options = ["--exitfirst", "--quiet", "-p", "no:cacheprovider", "-o", "timeout=900"]
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *tests],
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MAX_BYTES, MAX_BYTES))
            if seconds < math.inf:
                resource.prlimit(process.pid, resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds)))
            # 5: there is no test in it.
            return _status(process) in (0, 5)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _said(self) -> str:
        """What pytest said last, of the tests that failed, or where none did."""
        lines = self._output.read_text(errors="replace").splitlines()
        return "\n".join([each for each in lines if each.startswith(("FAILED", "ERROR"))] or lines[-5:])

    def environment(self) -> dict[str, str]:
        """In which the copy's code is what is imported, not that of the repository it was made from."""
        paths = [self.root / "src", self.root / "lab" / "src"]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def check(self) -> None:
        """Raises MutationError where the copy's code is not what its tests would run."""
        argv = [sys.executable, "-c", "import moorage; print(moorage.__file__)"]
        done = subprocess.run(
            argv, cwd=self.root, env=self.environment(), capture_output=True, text=True, check=False
        )
        if not done.stdout.startswith(str(self.root)):
            raise MutationError(f"tests of the copy would run {done.stdout.strip() or done.stderr.strip()}")


def _status(process: subprocess.Popen[bytes]) -> int | None:
    """With which it ends; None: it and all that it started sleep, and nothing will wake them."""
    asleep_seconds = 0.0
    while asleep_seconds < MAX_ASLEEP_SECONDS:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(LOOK_SECONDS)
        asleep_seconds = asleep_seconds + LOOK_SECONDS if sleeps(process.pid) else 0.0
    return None


def sleeps(pid: int) -> bool:
    """Whether a process and its children, and theirs, neither run nor wait for a processor or a disk just now."""
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            state = (thread / "stat").read_text().rpartition(")")[2].split()[0]
            children = (thread / "children").read_text().split()
            if state in "RD" or not all(sleeps(int(child)) for child in children):
                return False
    except OSError:
        return False  # one has just ended
    return True


def _seconds_of_children() -> float:
    """Of a processor, which processes have used that have ended and were waited for, here or by one of them."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextmanager
def copied(root: Path) -> Iterator[Copy]:
    """A copy of what git knows of the repository, or would take in, for the time of the block."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="moorage-mutants-") as directory:
        for name in filter(None, listed):
            source, target = root / name, Path(directory) / name
            if source.is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        yield Copy(Path(directory).resolve())
