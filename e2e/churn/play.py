"""Makes the faults of a plan, each at its time, and notes when what was down because of them."""

import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from e2e.churn import history
from e2e.churn.faults import Step
from e2e.churn.history import Down, Edit, Part, Up
from e2e.churn.recorder import AGENTS, OPERATORS, Program
from e2e.churn.scene import NAMESPACE, Scene
from e2e.harness.moored import NODES
from e2e.harness.outside import SERVERS
from e2e.harness.world import wait
from moorage.api.core_v1 import Node, Pod
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.cluster.client import Client
from moorage.cluster.errors import ApiError

_BACK_SECONDS = 120
"""Within which what was killed is there again: kubelet waits longer each time before it starts a container again."""
_DRAIN_SECONDS = 4
"""Within which a drained endpoint is to be empty."""
_MAX_WEIGHT = 3


def play(do: Callable[[Step], None], steps: Sequence[Step]) -> None:
    """Do all steps, those of each lane one after the other. Raises an error, if there is one, once all lanes rest."""
    start, stopped = time.monotonic(), threading.Event()

    def lane(name: str) -> None:
        for step in (each for each in steps if each.lane == name):
            if stopped.wait(max(0.0, start + step.at - time.monotonic())):
                return
            try:
                do(step)
            except BaseException as error:
                error.add_note(f"while this was done: {step}")
                stopped.set()
                raise

    names = sorted({each.lane for each in steps})
    with ThreadPoolExecutor(max_workers=max(1, len(names))) as pool:
        lanes = [pool.submit(lane, name) for name in names]
    for each in lanes:
        each.result()


class Player:
    """Does the steps. Those of one lane are never done at the same time."""

    def __init__(self, scene: Scene) -> None:
        self._scene, self._recorder = scene, scene.recorder
        self._servers = {each.name: each for each in SERVERS}
        self._nodes = {each.name: each for each in NODES}
        self._weights = {service: dict.fromkeys(scene.cast.endpoints, 1) for service in scene.cast.services}
        self._removed: dict[str, set[str]] = {service: set() for service in scene.cast.services}
        self._drained: dict[str, dict[str, str]] = {service: {} for service in scene.cast.services}
        """Service -> endpoint -> by when it is to be empty."""
        self._frozen: Program | None = None
        self._dos: dict[str, Callable[[Step], None]] = {
            "kill endpoint": self._kill_endpoint,
            "start endpoint": self._start_endpoint,
            "silence endpoint": self._silence_endpoint,
            "hear endpoint": self._hear_endpoint,
            "remove endpoint": lambda step: self._change(step, self._removed[step.service].add),
            "restore endpoint": lambda step: self._change(step, self._removed[step.service].discard),
            "drain endpoint": lambda step: self._change(step, self._drain(step.service)),
            "keep endpoint": lambda step: self._change(step, self._drained[step.service].pop),
            "weigh endpoint": lambda step: self._change(step, self._weigh(step)),
            "edit mooring": self._edit,
            "replace pod": self._replace_pod,
            "move pod": self._move_pod,
            "kill agent": lambda step: self._end_agent(step.target, self._kill),
            "replace agent": lambda step: self._end_agent(step.target, self._delete),
            "freeze agent": self._freeze_agent,
            "thaw agent": self._thaw_agent,
            "kill leader": lambda _: self._end_leader(self._kill),
            "replace leader": lambda _: self._end_leader(self._delete),
            "stop API server": self._stop_api,
            "start API server": self._start_api,
        }

    def do(self, step: Step) -> None:
        print(step, flush=True)
        self._dos[step.what](step)

    def _down(self, what: Part, name: str = "") -> None:
        self._scene.journal.note(Down(at=time.monotonic(), what=what, name=name))

    def _up(self, what: Part, name: str = "") -> None:
        self._scene.journal.note(Up(at=time.monotonic(), what=what, name=name))

    # --- Endpoints -----------------------------------------------------------------------------------------------

    def _kill_endpoint(self, step: Step) -> None:
        self._down("endpoint", step.target)
        self._scene.servers.kill(self._servers[step.target])

    def _start_endpoint(self, step: Step) -> None:
        self._scene.servers.start(self._servers[step.target])
        self._up("endpoint", step.target)

    def _silence_endpoint(self, step: Step) -> None:
        self._down("endpoint", step.target)
        self._scene.silence(self._servers[step.target].address)

    def _hear_endpoint(self, step: Step) -> None:
        self._scene.hear(self._servers[step.target].address)
        self._up("endpoint", step.target)

    # --- ExternalServices ----------------------------------------------------------------------------------------

    def _change(self, step: Step, change: Callable[[str], object]) -> None:
        """Make a change that is about the endpoint, and write what the ExternalService is to say."""
        service = step.service
        change(step.target)
        addresses = [
            {
                "name": each.name,
                "address": each.address,
                "port": each.port,
                "weight": self._weights[service][each.name],
            }
            for each in SERVERS
            if each.name not in self._removed[service]
        ]
        drain = [{"endpoint": name, "before": before} for name, before in self._drained[service].items()]
        patch = {"spec": {"endpoints": [{"addresses": addresses}], "drain": drain or None}}
        self._recorder.request(str(step), lambda api: api.patch(ExternalService, NAMESPACE, service, patch))

    def _drain(self, service: str) -> Callable[[str], object]:
        before = datetime.now(UTC) + timedelta(seconds=_DRAIN_SECONDS)
        return lambda endpoint: self._drained[service].update({endpoint: before.strftime("%Y-%m-%dT%H:%M:%SZ")})

    def _weigh(self, step: Step) -> Callable[[str], object]:
        weight = 1 + step.number % _MAX_WEIGHT
        return lambda endpoint: self._weights[step.service].update({endpoint: weight})

    # --- Clients -------------------------------------------------------------------------------------------------

    def _edit(self, step: Step) -> None:
        """Some Mooring of the Service whose client is there, to some endpoint where that is not."""
        present = {f"Pod/{each.name}" for each in self._present()} | {f"Node/{each}" for each in self._nodes}
        moorings = sorted(
            (name, each)
            for name, each in list(self._recorder.moorings.items())
            if each.service == step.service and each.client in present
        )
        name, mooring = moorings[step.number % len(moorings)]
        others = [each for each in self._scene.cast.endpoints if each != mooring.endpoint]
        endpoint = others[step.number // len(moorings) % len(others)]
        edit = Edit(at=time.monotonic(), service=step.service, client=mooring.client, endpoint=endpoint)
        self._scene.journal.note(edit)
        patch = {"spec": {"endpoint": endpoint}}
        self._recorder.request(str(step), lambda api: api.patch(Mooring, NAMESPACE, name, patch))

    def _present(self) -> list[history.Pod]:
        return [each for each in list(self._recorder.pods.values()) if each.life == "present"]

    def _replace_pod(self, step: Step) -> None:
        """Some pod of the workload."""
        pods = sorted(each.name for each in self._present() if each.name.startswith(f"{step.target}-"))
        name = pods[step.number % len(pods)]
        uids = {each.uid for each in self._present() if each.name == name}
        self._delete(NAMESPACE, name)
        wait(
            "another pod",
            lambda: uids.isdisjoint(self._recorder.pods) and self._scene.has_clients(),
            _BACK_SECONDS,
        )

    def _move_pod(self, step: Step) -> None:
        """The same, while no pod comes to some node."""
        nodes = self._scene.cast.nodes
        node = nodes[step.number // len(nodes) % len(nodes)]
        self._cordon(node, True)
        try:
            self._replace_pod(step)
        finally:
            self._cordon(node, None)

    def _cordon(self, node: str, cordoned: bool | None) -> None:
        patch = {"spec": {"unschedulable": cordoned}}
        self._recorder.request(f"cordon {node}", lambda api: api.patch(Node, None, node, patch))

    # --- Moorage's own pods --------------------------------------------------------------------------------------

    def _delete(self, namespace: str, pod: str) -> None:
        async def delete(api: Client) -> None:
            try:
                await api.delete(Pod, namespace, pod)
            except ApiError as error:
                if error.status != 404:  # the answer to the first attempt was lost
                    raise

        self._recorder.request(f"delete pod {pod}", delete)

    def _kill(self, namespace: str, pod: str) -> None:
        self._send(self._recorder.programs[namespace][pod], signal.SIGKILL)

    def _send(self, program: Program, number: signal.Signals) -> None:
        self._scene.agents.programs(self._nodes[program.node]).send(program.container, number)

    def _end_agent(self, node: str, end: Callable[[str, str], None]) -> None:
        before = self._agent(node)
        self._down("agent", node)
        end(AGENTS, before.name)
        wait(f"another agent on {node}", lambda: self._agent(node).container != before.container, _BACK_SECONDS)
        self._up("agent", node)

    def _agent(self, node: str) -> Program:
        """One that is ready, waited for."""
        found: list[Program] = []

        def ready() -> list[Program]:
            found[:] = [
                each for each in list(self._recorder.programs[AGENTS].values()) if each.node == node and each.ready
            ]
            return found

        wait(f"the agent of {node}", ready, _BACK_SECONDS)
        return found[0]

    def _freeze_agent(self, step: Step) -> None:
        self._frozen = self._agent(step.target)
        self._down("agent", step.target)
        self._send(self._frozen, signal.SIGSTOP)

    def _thaw_agent(self, step: Step) -> None:
        assert self._frozen is not None
        self._send(self._frozen, signal.SIGCONT)
        self._up("agent", step.target)

    def _end_leader(self, end: Callable[[str, str], None]) -> None:
        wait("two operators", self._scene.has_operators, _BACK_SECONDS)
        before = self._recorder.leader
        self._down("operator")
        end(OPERATORS, before.rpartition("_")[0])
        wait("another leader", lambda: self._recorder.leader not in ("", before), _BACK_SECONDS)
        self._up("operator")

    def _stop_api(self, _: Step) -> None:
        self._down("api")
        self._scene.b.api.process.stop(signal.SIGKILL)

    def _start_api(self, _: Step) -> None:
        self._scene.b.api.start()
        self._up("api")
