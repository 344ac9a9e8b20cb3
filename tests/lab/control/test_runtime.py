"""Pods as real processes, in namespaces that each test makes for itself as the lab does.

What must happen inside is in `inside_*`: this file runs itself there.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import Container, ContainerPort, EnvVar, Pod
from moorage.proc import run
from moorage_lab import network
from moorage_lab.checks import UNSHARE, search_path
from moorage_lab.control.kubelet import Kubelet
from moorage_lab.control.runtime import ProcessRuntime, command, environment, files, hostname
from moorage_lab.processes import MOORAGE
from moorage_lab.topology import plan, pod_netns
from tests.support.lab_objects import NOW, cluster, pod

ROOT = Path(__file__).parents[3]
PATIENCE = 20
"""Seconds that anything inside may take."""
LAB = plan({"a": 1})
PLAN = LAB.clusters[0]
NODE = PLAN.nodes[0]
ADDRESSES = ["10.244.1.2", "fd00:10:244:1::2"]
BACKEND = Container(
    name="c",
    args=["app", "backend"],
    env=[EnvVar(name="PORT", value="9000")],
    ports=[ContainerPort(container_port=9000)],
)


def of(container: Container, name: str = "web-1") -> Pod:
    one = pod(name)
    return replace(one, spec=replace(one.spec, containers=[container]))


def shell(script: str) -> Container:
    return Container(name="c", command=["sh", "-c", script])


# --- Pure ------------------------------------------------------------------------------------------------------


def test_arguments_without_a_command_are_moorages_own() -> None:
    assert command(BACKEND) == [*MOORAGE, "app", "backend"]
    assert command(Container(name="c", command=["sleep"], args=["1"])) == ["sleep", "1"]


@pytest.mark.parametrize(
    ("word", "expanded"),
    [("$(A)-$(B)", "1-$(B)"), ("$$(A)", "$(A)"), ("$A", "$A"), ("a$", "a$"), ("$(A", "$(A"), ("$()", "$()")],
)
def test_variables_in_arguments_are_expanded_as_kubernetes_does(word: str, expanded: str) -> None:
    assert command(Container(name="c", command=[word], env=[EnvVar(name="A", value="1")])) == [expanded]


def test_the_manifests_environment_goes_before_the_defaults() -> None:
    container = Container(name="c", env=[EnvVar(name="HOME", value="/srv"), EnvVar(name="EMPTY")])
    values = environment(of(container), container, "/bin")
    assert (values["HOME"], values["EMPTY"], values["PATH"], values["HOSTNAME"]) == ("/srv", "", "/bin", "web-1")


def test_a_hostname_is_the_specs_or_the_pods_and_fits() -> None:
    one = pod("x" * 70)
    assert hostname(one) == "x" * 63
    assert hostname(replace(one, spec=replace(one.spec, hostname="other"))) == "other"


def test_a_pods_files_send_it_to_the_clusters_dns() -> None:
    made = files(cluster(), pod("a"), ADDRESSES)
    assert made["resolv.conf"] == (
        "nameserver 10.96.0.10\nsearch ns.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    )
    assert "10.244.1.2\ta\n" in made["hosts"]


# --- In namespaces ---------------------------------------------------------------------------------------------


async def inside_a_pod_has_its_own_name_files_addresses_and_environment(runtime: ProcessRuntime, state: Path) -> None:
    script = "hostname; cat /etc/resolv.conf /etc/hosts; ip -o addr; echo port $PORT; ls /etc/passwd; echo $PPID"
    one = of(replace(shell(script), env=[EnvVar(name="PORT", value="9000")]))
    await runtime.create(one, NODE, ADDRESSES)
    process = await runtime.start(one, NODE, one.spec.containers[0])
    assert await process.wait() == 0
    said = (state / "pods" / "uid-web-1" / "c.log").read_text()
    assert said.startswith("web-1\nnameserver 10.96.0.10\n")
    for words in ("options ndots:5", "10.244.1.2\tweb-1", "inet 10.244.1.2/32", "port 9000", "/etc/passwd"):
        assert words in said, said
    assert "web-1" not in (await run(["hostname"])).stdout
    await runtime.remove(one, NODE)


async def inside_the_demos_backend_answers_and_ends_on_sigterm(runtime: ProcessRuntime, state: Path) -> None:
    one = of(BACKEND)
    await runtime.create(one, NODE, ADDRESSES)
    assert not await runtime.answers(ADDRESSES[0], 9000)
    process = await runtime.start(one, NODE, BACKEND)
    for address in ADDRESSES:
        await until_answers(runtime, address)
        reader, writer = await asyncio.open_connection(address, 9000)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"backend[web-1]\n")
        writer.close()
    process.send(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 0
    assert not await runtime.answers(ADDRESSES[0], 9000)
    await runtime.remove(one, NODE)
    await nothing_left()
    assert not list((state / "pods").iterdir())


async def inside_what_a_container_started_dies_with_it(runtime: ProcessRuntime, state: Path) -> None:
    one = of(shell("sleep 1000 & exec sleep 1001"))
    await runtime.create(one, NODE, ADDRESSES)
    process = await runtime.start(one, NODE, one.spec.containers[0])

    async def count(number: int) -> bool:
        return len(await pids(one)) == number

    await until(lambda: count(2))
    process.send(signal.SIGTERM)
    assert await asyncio.wait_for(process.wait(), PATIENCE) == 128 + signal.SIGTERM
    await until(lambda: count(0))
    await runtime.remove(one, NODE)


async def inside_a_program_that_is_not_there_is_an_exit_status(runtime: ProcessRuntime, state: Path) -> None:
    one = of(Container(name="c", command=["/no/such/program"]))
    await runtime.create(one, NODE, ADDRESSES)
    assert await (await runtime.start(one, NODE, one.spec.containers[0])).wait() == 127
    await runtime.remove(one, NODE)


async def inside_a_pod_that_is_half_made_or_not_there_can_be_removed(runtime: ProcessRuntime, state: Path) -> None:
    one = of(BACKEND)
    await runtime.remove(one, NODE)
    await run(["ip", "netns", "add", pod_netns("a", "uid-web-1")])
    await runtime.remove(one, NODE)
    await nothing_left()


async def inside_a_dead_predecessors_pods_die_with_it_and_are_cleared(runtime: ProcessRuntime, state: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    victim = await asyncio.create_subprocess_exec(sys.executable, __file__, "predecessor", str(state), env=environ)
    await until_answers(runtime, ADDRESSES[0])
    victim.kill()
    await victim.wait()

    async def silent() -> bool:
        return not await runtime.answers(ADDRESSES[0], 9000)

    await until(silent)
    await runtime.clear()
    await nothing_left()
    one = of(BACKEND)
    await runtime.create(one, NODE, ADDRESSES)
    process = await runtime.start(one, NODE, BACKEND)
    await until_answers(runtime, ADDRESSES[0])
    process.send(signal.SIGKILL)
    await process.wait()
    await runtime.remove(one, NODE)


async def inside_the_kubelet_starts_a_killed_pod_again_and_ends_a_deleted_one(
    runtime: ProcessRuntime, state: Path
) -> None:
    one, api = of(BACKEND), Api()

    async def ready(restarts: int) -> bool:
        statuses = api.status.get("containerStatuses")
        assert isinstance(statuses, list | None)
        return any(each["ready"] and each["restartCount"] == restarts for each in statuses or ())

    async def finished() -> bool:
        return api.finished

    async with asyncio.TaskGroup() as group:
        kubelet = Kubelet(group, PLAN, runtime, api, lambda: NOW)
        kubelet.sync([one])
        await until(lambda: ready(0))
        os.kill((await pids(one))[0], signal.SIGKILL)
        await until(lambda: ready(1))
        meta = replace(one.metadata, deletion_timestamp=NOW, deletion_grace_period_seconds=30)
        began = time.monotonic()
        kubelet.sync([replace(one, metadata=meta)])
        await until(finished)
        assert time.monotonic() - began < 15, "SIGTERM sufficed"
        await nothing_left()


class Api:
    """`kubelet.PodClient` of one pod."""

    def __init__(self) -> None:
        self.status: dict[str, object] = {}
        self.finished = False

    async def report(self, pod: Pod, status: dict[str, object]) -> None:
        self.status = status

    async def finish(self, pod: Pod) -> None:
        self.finished = True

    def event(self, pod: Pod, type: str, reason: str, message: str) -> None:
        print(reason, message)


async def predecessor(runtime: ProcessRuntime) -> None:
    await runtime.create(of(BACKEND), NODE, ADDRESSES)
    await (await runtime.start(of(BACKEND), NODE, BACKEND)).wait()


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not await condition():  # type: ignore[misc]
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.02)


async def until_answers(runtime: ProcessRuntime, address: str) -> None:
    await until(lambda: runtime.answers(address, 9000))


async def pids(one: Pod) -> list[int]:
    done = await run(["ip", "netns", "pids", pod_netns("a", one.metadata.uid or "")])
    return [int(pid) for pid in done.stdout.split()]


async def nothing_left() -> None:
    assert "pod" not in (await run(["ip", "netns", "list"])).stdout
    assert "pod" not in (await run(["ip", "-n", NODE.netns, "link"])).stdout
    assert "10.244.1.2" not in (await run(["ip", "-n", NODE.netns, "route"])).stdout


SCENARIOS = {name: made for name, made in globals().items() if name.startswith("inside_")}


@pytest.mark.parametrize("name", SCENARIOS)
def test_in_its_own_namespaces(name: str, tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": search_path(os.environ["PATH"])}
    argv = [*UNSHARE, sys.executable, __file__, name, str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, env=environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


async def _inside(name: str, directory: Path) -> None:
    if name == "predecessor":
        await predecessor(ProcessRuntime(PLAN, directory))
        return
    await network.mount(str(directory))
    await network.build(LAB)
    # The internet has no way into the cluster: from here the pods are reached by their node.
    state = network.STATE / "control"
    await run(["ip", "-batch", "-"], input=ROUTES)
    await SCENARIOS[name](ProcessRuntime(PLAN, state), state)


ROUTES = "".join(
    f"route add {pods} via {gateway}\n" for pods, gateway in zip(NODE.pod_ranges, PLAN.public_addresses, strict=True)
)

if __name__ == "__main__":
    asyncio.run(_inside(sys.argv[1], Path(sys.argv[2])))
