"""Tries changes in a copy of the repository: the work tree is never touched."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mutation.sample import Trial, suites_of

GRACE_SECONDS = 60.0
"""How much longer tests may take than without a change, because the machine has more to do."""
MAX_SLOWDOWN = 3.0
"""How many times as long they may take; after that the change has been noticed: they hang."""


class MutationError(Exception):
    """The tests cannot be run, or fail as they are."""


class Copy:
    """A copy of the repository, whose code its tests run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._output = root / ".pytest_output"
        self._seconds: dict[tuple[str, ...], float] = {}
        """How long tests took without a change."""

    def survives(self, trial: Trial) -> bool:
        """Whether no test notices this change. Raises MutationError where tests fail without it."""
        path = self.root / trial.module
        source = path.read_text()
        suites = suites_of(self.root, trial.module)
        bounds = [self._bound(tests) for tests in suites]
        path.write_text(trial.mutant.of(source))
        try:
            return all(self._pass(tests, bound) for tests, bound in zip(suites, bounds, strict=True))
        finally:
            path.write_text(source)

    def _bound(self, tests: list[str]) -> float:
        key = tuple(tests)
        if key not in self._seconds:
            begun = time.monotonic()
            if not self._pass(tests, 1800.0):
                raise MutationError(f"{' '.join(tests)}: fails without any change; mend that first\n{self._said()}")
            self._seconds[key] = time.monotonic() - begun
        return self._seconds[key] * MAX_SLOWDOWN + GRACE_SECONDS

    def _pass(self, tests: list[str], seconds: float) -> bool:
        """Whether these tests pass in time. What they have started ends with them."""
        argv = [sys.executable, "-m", "pytest", "--exitfirst", "--quiet", "-p", "no:cacheprovider", *tests]
        with self._output.open("wb") as output:
            process = subprocess.Popen(
                argv,
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            # 5: there is no test in it.
            return process.wait(seconds) in (0, 5)
        except subprocess.TimeoutExpired:
            return False
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
