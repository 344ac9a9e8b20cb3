"""The API server that other tests use, and the programs of a world."""

import signal
from pathlib import Path

import pytest

from e2e.harness import builds
from e2e.harness.control_plane import ApiServer
from e2e.harness.errors import HarnessError
from e2e.harness.world import Process, World, wait


def sleeper(world: World) -> Process:
    """A program that runs for as long as a test does."""
    process = world.start("sleeper", ["sleep", "60"])
    children = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children")
    wait("sleep", lambda: bool(children.read_text().split()), 10)
    return process


@pytest.mark.every_kubernetes
def test_it_is_the_version_that_was_built(api_server: ApiServer, kubernetes: str) -> None:
    assert f"Server Version: {builds.version(kubernetes)}\n" in api_server.kubectl("version")


def test_objects_survive_a_restart(api_server: ApiServer, namespace: str) -> None:
    api_server.kubectl("-n", namespace, "create", "configmap", "kept", "--from-literal=a=b")
    api_server.restart()
    assert api_server.get("-n", namespace, "configmap", "kept")["data"] == {"a": "b"}


def test_a_program_can_be_stopped_when_it_has_ended_or_is_frozen(api_server: ApiServer) -> None:
    world = api_server.world
    ended = world.start("ended", ["true"])
    ended.popen.wait(10)
    ended.stop()
    with pytest.raises(HarnessError, match="ended does not run"):
        ended.send(signal.SIGTERM)

    for _ in range(20):
        killed = sleeper(world)
        killed.send(signal.SIGKILL)
        killed.stop()
        assert not killed.running

    frozen = sleeper(world)
    frozen.send(signal.SIGSTOP)
    frozen.stop(signal.SIGKILL)
    assert not frozen.running
