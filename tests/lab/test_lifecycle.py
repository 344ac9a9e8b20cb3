"""A lab leaves nothing behind, however it ends."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.labs import RunningLab, User, a_user, running_lab, until

ONE_CLUSTER = ("--cluster", "a=1")


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    with a_user() as user:
        yield user


def outer(lab: RunningLab) -> int:
    return lab.state().pid


def unshare(lab: RunningLab) -> int:
    return int(Path(f"/proc/{lab.state().init_pid}/stat").read_text().rpartition(")")[2].split()[1])


def init(lab: RunningLab) -> int:
    return lab.state().init_pid


def supervisor(lab: RunningLab) -> int:
    pid = lab.state().init_pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def api_server(lab: RunningLab) -> int:
    return lab.find("a/apiserver")


@pytest.mark.parametrize("victim", [outer, unshare, init, supervisor, api_server])
def test_nothing_is_left_after_a_sigkill_of(user: User, victim: Callable[[RunningLab], int]) -> None:
    with running_lab(user, *ONE_CLUSTER) as lab:
        assert len(lab.pids()) > 5
        os.kill(victim(lab), signal.SIGKILL)
        lab.process.wait(20)
        if victim is not outer:
            assert lab.process.returncode == 1
            last = lab.output.read_text().strip().splitlines()[-1]
            assert last.startswith("moorage: lab"), last
        lab.expect_nothing_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_outer_process_ends_the_lab_in_order(user: User, number: signal.Signals) -> None:
    with running_lab(user, *ONE_CLUSTER) as lab:
        lab.process.send_signal(number)
        assert lab.process.wait(10) == 0
        assert lab.pids() == []
        assert not lab.directory.exists()
        lab.expect_nothing_left()


def test_lab_stop_returns_when_the_lab_has_ended(user: User) -> None:
    with running_lab(user, *ONE_CLUSTER) as lab:
        assert user.ok("lab", "stop", "world") == "lab world ended\n"
        assert lab.pids() == []
        assert not lab.directory.exists()


def test_lab_stop_returns_when_a_lab_that_hangs_has_ended_by_force(user: User) -> None:
    with running_lab(user, *ONE_CLUSTER) as lab:
        os.kill(supervisor(lab), signal.SIGSTOP)
        assert user.ok("lab", "stop", "world") == "lab world ended\n"
        assert lab.pids() == []
        assert not lab.directory.exists()


def test_programs_that_die_are_started_again_and_orphans_are_reaped(user: User) -> None:
    with running_lab(user, *ONE_CLUSTER) as lab:
        for name in ("a/agent-node-1", "a/agent-gateway", "a/control", "dnsmasq"):
            victim = lab.find(name)
            os.kill(victim, signal.SIGKILL)
            until(lambda name=name, victim=victim: other_than(lab, victim, name), f"another {name}")  # type: ignore[misc]
        lab.ok("exec", "node-1", "--", "sh", "-c", "sleep 0.1 & exec true")
        until(lambda: not zombies(lab), "the end of zombies")


def test_a_refused_manifest_is_told_and_ends_neither_the_lab_nor_the_other_manifests(user: User) -> None:
    manifest = user.runtime / "service.yml"
    manifest.write_text(
        "".join(
            f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: s, namespace: {namespace}}}\n"
            "spec: {ports: [{port: 80}]}\n"
            for namespace in ("nowhere", "default")
        )
    )
    with running_lab(user, *ONE_CLUSTER, "-f", str(manifest)) as lab:
        lines = lab.output.read_text().splitlines()
        assert [line for line in lines if line.startswith("moorage: ")] == [
            'moorage: service/s: namespaces "nowhere" not found (404 NotFound)'
        ]
        assert lab.ok("get", "svc", "s", "-o", "name") == "service/s\n"


def other_than(lab: RunningLab, victim: int, name: str) -> bool:
    try:
        return lab.find(name) != victim
    except AssertionError:
        return False


def zombies(lab: RunningLab) -> list[int]:
    def state(pid: int) -> str:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return ""

    return [pid for pid in lab.pids() if state(pid) == "Z"]


def test_a_lab_of_the_same_name_is_refused_while_one_runs_and_what_a_killed_one_left_is_used_again(
    user: User,
) -> None:
    with running_lab(user, *ONE_CLUSTER) as lab:
        refused = user.run("lab", "run", "--name", "world", *ONE_CLUSTER)
        assert refused.returncode == 1
        assert refused.stderr.startswith("moorage: lab world is running; end it with: moorage lab stop world")
        lab.process.kill()
        lab.process.wait(10)
        assert (lab.directory / "lab.json").exists()
        with running_lab(user, *ONE_CLUSTER) as again:
            assert again.ok("get", "nodes", "-o", "name") == "node/node-1\n"
        lab.expect_nothing_left()
