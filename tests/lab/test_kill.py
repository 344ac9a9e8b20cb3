"""`moorage lab kill`: what a program's end means can be tried."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.labs import RunningLab, a_user, running_lab, until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    with a_user() as user, running_lab(user, "--cluster", "a=1") as lab:
        yield lab


def test_what_is_killed_comes_back(lab: RunningLab) -> None:
    names = ("operator", "agent-node-1", "agent-gateway")
    before = {name: lab.find(f"a/{name}") for name in names}
    assert lab.ok("kill", *names) == "".join(f"{name}: SIGKILL\n" for name in names)
    for name, pid in before.items():
        until(lambda name=name, pid=pid: other_than(lab, pid, f"a/{name}"), f"another {name}")  # type: ignore[misc]


def test_what_is_stopped_stays_so_until_it_is_continued(lab: RunningLab) -> None:
    operator = lab.find("a/operator")
    assert lab.ok("kill", "-s", "STOP", "operator") == "operator: SIGSTOP\n"
    until(lambda: state_of(operator) == "T", "a stopped operator")
    assert lab.ok("kill", "--cluster", "a", "-s", "CONT", "operator") == "operator: SIGCONT\n"
    until(lambda: state_of(operator) != "T", "the operator again")
    assert lab.find("a/operator") == operator


@pytest.mark.parametrize("name", ["apiserver", "node-1", "nothing"])
def test_what_cannot_be_killed_is_said_with_what_can(lab: RunningLab, name: str) -> None:
    done = lab.run("kill", "operator", name)
    assert done.returncode == 1
    assert done.stdout == "", "nothing is killed before all names are known"
    assert done.stderr == (
        f"moorage: cluster a: has no program {name!r}; it has: dns, agent-node-1, agent-gateway, control, operator\n"
    )


def other_than(lab: RunningLab, victim: int, name: str) -> bool:
    try:
        return lab.find(name) != victim
    except AssertionError:
        return False


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
