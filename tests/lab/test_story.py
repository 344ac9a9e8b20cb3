"""The demo, as users start it: the whole story on the real kernel, from a checkout and from installed wheels."""

import io
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from moorage_lab.answers import Answer, check_one_backend, how_many_to_show
from moorage_lab.checks import UNSHARE
from moorage_lab.narrator import Narrator
from moorage_lab.stage import EFFECT_SECONDS, SLACK_SECONDS
from testing.stalls import Stalls
from tests.support.labs import ROOT, User, a_user, until
from tests.support.transcripts import blocks, normalised, unwrapped
from tests.support.wheels import built_wheel

NOBODY = 65534
DEMO = ("demo", "--patience", "20")
"""Where tests run, something else may run, too: what is late is compared with what that took."""
MOORING = re.compile(r"^ +backend\.node\.(node-\d) +Node +node-\d +(backend\d-lb) +\d+s +(\w+)", re.MULTILINE)
WORKER_LINE = re.compile(r"worker\[(worker-\d)\] -> backend\[(backend[123])-\w+-\w+\]")
CURL_LINE = re.compile(r"frontend\[frontend-\w+-\w+\] -> backend\[(backend[123])-\w+-\w+\]")


def steps(output: str) -> dict[str, str]:
    """Title -> what was printed under it."""
    parts = re.split(r"^(.*?) ─+$", output, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def expect_what_the_readme_shows(output: str) -> None:
    """All its lines, in their order; between them, and where it has dots, it leaves some out."""
    printed = iter(normalised(unwrapped(output)).splitlines())
    make, *shown = blocks("console")
    assert make.startswith("$ make demo ")
    for line in normalised(unwrapped("".join(shown))).splitlines():
        assert line.strip() in ("", "...") or line in printed, line


def typed(printed: str) -> list[str]:
    """The commands below comments, whole."""
    return [line for line in unwrapped(printed).splitlines() if line and not line.startswith("#")]


def tell_and_keep(user: User) -> subprocess.CompletedProcess[str]:
    """Run the demo, leave its clusters up, and do what it says then; the last of it ends them."""
    output = user.runtime / "output"
    with output.open("w") as file, Stalls() as stalls:
        began = time.monotonic()
        process = subprocess.Popen(user.argv(*DEMO, "--keep"), env=user.environ, stdout=file)
        try:
            until(lambda: process.poll() is not None or "lab stop demo\n" in output.read_text(), "its end", 200)
            lost = stalls.since(began)
            _, _, next_steps = output.read_text().rpartition("Ctrl-C ends this")
            for line in typed(next_steps.partition("\n")[2]):
                user.shell(line)
            process.wait(20)
        finally:
            process.kill()
            process.wait()
        done = subprocess.CompletedProcess(process.args, process.returncode, output.read_text(), "")
        expect_the_story(done, lost)
        expect_the_moorings(steps(unwrapped(done.stdout)), lost)
        expect_the_workers(steps(unwrapped(done.stdout)), lost)
        assert done.stdout.endswith("\nended\n")
        expect_what_the_readme_shows(done.stdout)
    return done


def tell(user: User) -> subprocess.CompletedProcess[str]:
    """Run the demo, and look at all that it told."""
    began = time.monotonic()
    with Stalls() as stalls:
        done = user.run(*DEMO)
        expect_the_story(done, stalls.since(began))
    return done


def expect_the_story(done: subprocess.CompletedProcess[str], lost: float) -> None:
    """`lost`: the seconds in which this machine let nobody run meanwhile."""
    output = unwrapped(done.stdout)
    told = steps(output)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " FAIL " not in output
    backends = {title: [found[1] for found in CURL_LINE.finditer(text)] for title, text in told.items()}
    on, off, again = (backends[title] for title in told if title.startswith("Affinity"))
    assert len(set(on)) == len(set(again)) == 1
    assert set(off) == {"backend1", "backend2"}
    assert backends["The pinned backend goes away"] == []
    assert "Backend not available: " in told["The pinned backend goes away"]
    [other] = set(backends["Its address is taken out of the slice, by hand"])
    assert other != again[0]
    assert (
        "NameTaken: Service frontend/backend exists" in told["Cluster B: an ExternalService that follows cluster A"]
    )
    kept = backends["The Service and the slice made by hand go"]
    [survivor] = set(backends["The pinned backend goes down"])
    assert len(set(kept)) == 1
    assert survivor != kept[0]
    assert set(backends["A third backend is added in cluster A"]) == {survivor, "backend3"}
    [took] = re.findall(r"went on at the other one (\d+\.\d) s .* timeout = 1 s x 2 \+ 1 s = 3 s", output)
    assert float(took) <= 3 + SLACK_SECONDS + lost
    [took] = re.findall(r"(\d+) ms from sending the edit to", output)
    assert int(took) / 1000 <= EFFECT_SECONDS + lost
    assert re.search(r"^ down  all (\d+) requests fail, and will until somebody acts", output, re.MULTILINE)
    assert re.search(r"^  by hand +all \d+ requests failed until a person took the address out", output, re.MULTILINE)
    assert re.search(r"^  ExternalService +\d+ requests failed in \d\.\d s, then the other", output, re.MULTILINE)
    assert re.search(r"^  Mooring +\d+ requests failed in \d\.\d s, then others answered its", output, re.MULTILINE)
    assert re.search(r"^  ClientIP +it may reach another backend: [1-3] of 3 did$", output, re.MULTILINE)
    assert re.search(r"^  Mooring +it reaches the same backend: 3 of 3 did$", output, re.MULTILINE)
    assert re.search(r"^(\d+) of \1 checks passed, in \d+\.\d s$", output, re.MULTILINE)


def expect_the_moorings(told: dict[str, str], lost: float) -> None:
    """The third act, by the tables that it prints."""
    titles = [title for title in told if MOORING.search(told[title])]
    first, added, failed, edited = (at(told[title]) for title in titles)
    assert sorted(Counter(endpoint for endpoint, _ in first.values()).values()) == [1, 2]
    assert {reason for _, reason in first.values()} == {"Assigned"}
    assert added == first
    [(down, _)] = Counter(endpoint for endpoint, _ in first.values()).most_common(1)
    assert {node for node in failed if failed[node] != first[node]} == {
        node for node in first if first[node][0] == down
    }
    assert {reason for endpoint, reason in failed.values() if reason != "Assigned"} == {"FailedOver"}
    [moved] = [node for node in edited if edited[node] != failed[node]]
    assert edited[moved][1] == "Moved"
    for title in (*titles, "With moorings, their pods are re-created"):
        assert len(CURL_LINE.findall(told[title])) == 3, "each frontend reaches one backend"
    [took] = re.findall(
        r"went on at others (\d+\.\d) s after", told["The backend of two nodes goes down: only they move"]
    )
    assert float(took) <= 3 + SLACK_SECONDS + lost


def expect_the_workers(told: dict[str, str], lost: float) -> None:
    """The end of the third act, by what the workers themselves have printed."""
    first, moved, edited = (
        told[title]
        for title in (
            "Each pod is a client, with an open connection",
            "worker-0 moves to another node",
            "A person edits a Mooring: an open connection ends",
        )
    )
    at = dict(re.findall(r"queue\.(worker-\d) +Pod +worker-\d +(backend\d)-lb", first))
    assert at == dict(WORKER_LINE.findall(first))
    assert len(set(at.values())) == 2
    assert WORKER_LINE.findall(moved) == [("worker-0", at["worker-0"])]
    [(now, before)] = re.findall(r"on (node-\d), with another address, .* after it was deleted on (node-\d)\)", moved)
    assert now != before
    assert WORKER_LINE.findall(edited) == [("worker-1", at["worker-0"])]
    assert re.search(r"worker\[worker-1\] lost its connection after \d+ answers: Connection reset by peer", edited)
    [took] = re.findall(r"went on at backend\d (\d+) ms after the edit", edited)
    assert int(took) / 1000 <= EFFECT_SECONDS + lost


def at(printed: str) -> dict[str, tuple[str, str]]:
    """Node -> the endpoint that it is moored to, and why, from the table in what was printed."""
    return {node: (endpoint, reason) for node, endpoint, reason in MOORING.findall(printed)}


def expect_no_line_is_longer(output: str, width: int) -> None:
    """But for a path of a file, which stands in a line alone."""
    longer = [line for line in output.splitlines() if len(line) > width]
    assert [line for line in longer if not re.fullmatch(r" *\S+( \\)?", line)] == []


@pytest.mark.parametrize(
    ("backends", "shown"),
    [
        (["a"], 1),
        (["a"] * 40, 5),
        (["a", "b"] * 20, 5),
        (["a"] * 6 + ["b"] * 34, 7),
        (["a"] * 19 + [None], 20),
        ([None] * 5, 5),
        ([None] * 7 + ["a"] * 3, 8),
    ],
)
def test_as_many_lines_are_shown_as_it_takes_to_see_a_second_outcome(backends: list[str | None], shown: int) -> None:
    assert how_many_to_show(backends) == shown


def narrator() -> tuple[Narrator, io.StringIO]:
    output = io.StringIO()
    return Narrator(Console(file=output, width=200)), output


def test_a_check_that_fails_says_what_was_seen_and_the_story_does_not_hold() -> None:
    told, output = narrator()
    a, b = Answer("...", "backend1-x-y"), Answer("...", "backend2-x-y")
    failed = Answer("Backend not available: refused", None)
    assert check_one_backend(told, [a, a]) == "backend1-x-y"
    assert check_one_backend(told, [a, failed, b, a]) is None
    assert check_one_backend(told, [failed, failed]) is None
    told.end()
    assert not told.holds
    assert output.getvalue().splitlines()[:3] == [
        " pass  2 requests, all answered by backend1-x-y",
        " FAIL  4 requests, not all answered by one backend:"
        " backend1-x-y 2, backend2-x-y 1, failed 1 (Backend not available: refused)",
        " FAIL  2 requests, not all answered by one backend: failed 2 (Backend not available: refused)",
    ]


def test_a_story_that_has_not_come_to_its_end_does_not_hold() -> None:
    told, _ = narrator()
    told.check(True, "one", "none")
    assert not told.holds
    told.end()
    assert told.holds


@contextmanager
def an_ordinary_user() -> Iterator[User]:
    """This one, or where that is root, nobody, who has installed the wheels over a Python that they may run."""
    root = os.geteuid() == 0
    prefix = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups") if root else ()
    if subprocess.run([*prefix, *UNSHARE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine forbids user namespaces to ordinary users")
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        base.chmod(0o755)
        runtime = base / "runtime"
        runtime.mkdir(mode=0o700)
        if root:
            os.chown(runtime, NOBODY, NOBODY)
        python = environment_of(base / "venv", prefix)
        yield User(runtime, prefix, (str(python), "-P", "-m", "moorage"))


def environment_of(directory: Path, prefix: tuple[str, ...]) -> Path:
    """A virtual environment with the wheels and this one's packages, over a Python that may be run under `prefix`."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = directory / "lib" / name / "site-packages"
    packages.mkdir(parents=True)
    unpack_wheels(packages)
    own = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "others.pth").write_text("\n".join(own) + "\n")
    for base in (Path(sys.base_prefix) / "bin", Path("/usr/local/bin"), Path("/usr/bin")):
        code = f"import sys; sys.path[:0] = {[str(packages), *own]!r}; import moorage_lab.story"
        # By way of a shell: setpriv itself still has root's capabilities when it looks for the program.
        trial = [*prefix, "sh", "-c", 'exec "$@"', "sh", str(base / name), "-c", code]
        if subprocess.run(trial, capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip(f"no {name} here that an ordinary user may run, or the checkout is closed to others")
    (directory / "bin").mkdir()
    (directory / "pyvenv.cfg").write_text(f"home = {base}\ninclude-system-site-packages = false\n")
    (directory / "bin" / name).symlink_to(base / name)
    return directory / "bin" / name


def unpack_wheels(packages: Path) -> None:
    """Install the wheels of this checkout, Moorage's and the lab's, into this directory."""
    for project in (ROOT, ROOT / "lab"):
        with zipfile.ZipFile(built_wheel(project)) as archive:
            archive.extractall(packages)


@pytest.mark.timeout(300)
def test_the_story_holds() -> None:
    with a_user() as user:
        expect_no_line_is_longer(tell_and_keep(user).stdout, 80)
        assert user.ok("lab", "list") == "no lab is running\n"


@pytest.mark.timeout(300)
def test_the_story_holds_for_an_ordinary_user_who_has_installed_the_wheels() -> None:
    with an_ordinary_user() as user:
        user.environ["COLUMNS"] = "60"
        done = tell(user)
        expect_no_line_is_longer(done.stdout, 60)
        assert typed(steps(done.stdout)["What to try next"]) == ["moorage demo --keep", "moorage lab run"]
        assert "site-packages/moorage_lab/deploy/demo/k8s-frontend.yml" in done.stdout
        assert user.ok("lab", "list") == "no lab is running\n"


def forbidden(runtime: Path, then: str) -> User:
    """A user who may make no user namespaces, and runs `then` with the command as its words."""
    script = f"echo 0 > /proc/sys/user/max_user_namespaces; {then}"
    return User(runtime, ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh"))


def test_user_namespaces_that_are_forbidden_are_named_with_what_to_do() -> None:
    with a_user() as user:
        done = forbidden(user.runtime, 'exec "$@"').run("demo")
        assert done.returncode == 1
        assert done.stderr == (
            "moorage: this machine forbids user namespaces; allow them: sysctl -w user.max_user_namespaces=10000\n"
        )
        what_it_says = """$("$@" 2>&1 | sed -n 's/.*allow them: //p') && unshare --user true"""
        forbidden(user.runtime, what_it_says).ok("demo")


def test_programs_that_are_missing_are_named_with_their_packages() -> None:
    with a_user() as user:
        user.environ["PATH"] = ""
        hiding = (
            "/usr/bin/unshare",
            "--user",
            "--map-root-user",
            "--mount",
            "/bin/sh",
            "-c",
            'for d in /usr/sbin /usr/local/sbin; do /bin/mount -t tmpfs none $d; done; exec "$@"',
            "sh",
        )
        done = User(user.runtime, hiding).run("demo")
        assert done.returncode == 1
        assert done.stderr.startswith("moorage: ")
        assert re.search(r"dnsmasq.*: not installed; install with: apt-get install .*dnsmasq-base", done.stderr)
