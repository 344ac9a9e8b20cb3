"""The README's commands do what it says, and programs print what it shows."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.labs import ROOT, START_SECONDS, User, a_user, until
from tests.support.transcripts import blocks, commands, normalised

SECTION = "An external service of your own, in five minutes"
BOUND_SECONDS = 60.0
"""Seconds until what is shown is so."""
SWAPPED = str.maketrans({"1": "2", "2": "1"})


@contextmanager
def terminal(user: User, directory: Path, line: str) -> Iterator[None]:
    """One in which this line starts a lab, until Ctrl-C."""
    output = user.runtime / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(line.split(), env=user.environ, cwd=directory, stdout=file, stderr=file)
    try:
        until(lambda: process.poll() is not None or "Ctrl-C" in output.read_text(), line, 2 * START_SECONDS)
        yield
    finally:
        process.terminate()
        process.wait(20)


def shown(user: User, directory: Path, line: str, expected: str) -> str:
    """What the line prints once it succeeds and prints what is expected, if anything is.

    What is asked for takes a moment: a name server, for example, knows a Service some time after it is made.
    """

    def holds() -> bool:
        done = subprocess.run(
            ["bash", "-euc", line], env=user.environ, cwd=directory, capture_output=True, text=True, check=False
        )
        printed.append(done.stdout + done.stderr)
        return done.returncode == 0 and expected in ("", normalised(done.stdout))

    printed: list[str] = []
    try:
        until(holds, line, BOUND_SECONDS)
    except pytest.fail.Exception:
        raise AssertionError(f"{line}: printed {printed[-1]!r} in place of {expected!r}") from None
    return printed[-1]


@pytest.mark.timeout(400)
def test_an_external_service_of_one_s_own(tmp_path: Path) -> None:
    """But for the first choice of a server, which is anybody's."""
    first, *rest = blocks("console", SECTION)
    (tmp_path / "mine.yaml").write_text(next(block for block in blocks("yaml", SECTION) if "# mine.yaml" in block))
    activate, run = (line for line, _ in commands(first))
    assert activate == "source .venv/bin/activate"
    with a_user() as user, terminal(user, tmp_path, run):
        swap = False
        for block in rest:
            for line, expected in commands(block):
                if "for i in" in line:
                    answers = set(shown(user, tmp_path, line, "").split())
                    assert len(answers) == 1
                    swap = answers == {"two"}
                elif line.endswith("&"):
                    subprocess.Popen(
                        ["bash", "-c", line],
                        env=user.environ,
                        cwd=tmp_path,
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                    ).wait()
                else:
                    here = line.replace("192.0.2.1", "192.0.2.2") if swap and "delete" in line else line
                    shown(user, tmp_path, here, "one\n" if swap and expected == "two\n" else expected)


@pytest.mark.timeout(400)
def test_the_commands_of_the_lab_s_section() -> None:
    first, *others = [commands(block) for block in blocks("console", "The lab")]
    (run, _), *rest, (stop, _) = first
    with a_user() as user, terminal(user, ROOT, run):
        for line, _ in [*rest, *(each for block in others for each in block)]:
            user.shell(line)
        user.shell(stop)


def test_render_as_the_readme_has_it() -> None:
    (render, _), *_ = commands(blocks("console", "The data plane by itself")[0])
    with a_user() as user:
        assert "table inet moorage" in user.shell(render)
