"""Command lines that run a program in a running lab: in a pod, on a node, at a gateway, or in the internet."""

from collections.abc import Sequence
from typing import NamedTuple

from moorage import proc
from moorage.api.apps_v1 import Deployment, StatefulSet
from moorage.api.core_v1 import Pod
from moorage.api.kinds import named
from moorage.cluster.client import Client
from moorage.errors import MoorageError
from moorage_lab.control.deployments import is_ready, owned
from moorage_lab.network import RUN, STATE
from moorage_lab.processes import entering
from moorage_lab.programs import Files
from moorage_lab.state import LabState
from moorage_lab.topology import ClusterPlan, pod_netns

INTERNET = "internet"
GATEWAY = "gateway"
WORKLOADS: tuple[type[Deployment] | type[StatefulSet], ...] = (Deployment, StatefulSet)


class PodPlace(NamedTuple):
    """A pod and its cluster."""

    cluster: ClusterPlan
    pod: Pod

    @property
    def netns(self) -> str:
        if self.pod.spec.host_network:
            return next(node.netns for node in self.cluster.nodes if node.name == self.pod.spec.node_name)
        return pod_netns(self.cluster.name, self.pod.metadata.uid or "")

    def log(self, container: str | None) -> str:
        """The file with a container's output, as a path inside the lab; by default of the first container.

        Raises MoorageError for a container that the pod does not have.
        """
        names = [found.name for found in self.pod.spec.containers]
        if container is not None and container not in names:
            raise MoorageError(
                f"pod {self.pod.metadata.name}: has no container {container!r}; it has: {', '.join(names)}"
            )
        return str(RUN / self.cluster.name / "pods" / (self.pod.metadata.uid or "") / f"{container or names[0]}.log")


def inside(state: LabState) -> list[str]:
    """The command line prefix that enters the lab's internet. The lab's owner and root may do that."""
    namespaces = ["--user", "--preserve-credentials", "--mount", "--uts", "--pid", "--net"]
    return ["nsenter", f"--target={state.init_pid}", *namespaces, "--"]


def on_node(state: LabState, cluster: str | None, name: str) -> list[str] | None:
    """The prefix for a node, `gateway` or `internet`, in this cluster or in whichever has it; None if none does.

    Nodes and gateways get their cluster's KUBECONFIG: the caller's one is for the machine, which they cannot reach.
    Raises MoorageError if several clusters have one.
    """
    if name == INTERNET:
        return [*inside(state), "env", "--unset=KUBECONFIG"]
    found: list[tuple[str, str]] = []
    for plan in state.plan.clusters:
        if cluster in (None, plan.name):
            netns = [plan.gateway] if name == GATEWAY else [node.netns for node in plan.nodes if node.name == name]
            found += [(plan.name, each) for each in netns]
    if len(found) > 1:
        names = " and ".join(netns for _, netns in found)
        raise MoorageError(f"{name}: {names} could be meant; say which one with --cluster")
    if not found:
        return None
    [(of, within)] = found
    return [*inside(state), *entering(within), "env", f"KUBECONFIG={Files(RUN, STATE, of).inside}"]


async def in_pod(state: LabState, place: PodPlace) -> tuple[list[str], dict[str, str]]:
    """The prefix for a pod, with the environment of its processes. Raises MoorageError if nothing runs in it."""
    name = place.pod.metadata.name
    pids = (await proc.run([*inside(state), "ip", "netns", "pids", place.netns])).stdout.split()
    for pid in pids:
        environ = await proc.run([*inside(state), "cat", f"/proc/{pid}/environ"])
        values = dict(entry.split("=", 1) for entry in environ.stdout.split("\0") if "=" in entry)
        if environ.status == 0 and (not place.pod.spec.host_network or values.get("HOSTNAME") == name):
            return [*inside(state), "nsenter", f"--target={pid}", "--mount", "--uts", "--net", "--"], values
    raise MoorageError(f"pod {name}: nothing runs in it")


async def find_pod(
    clients: Sequence[tuple[ClusterPlan, Client]], target: str, namespace: str | None
) -> PodPlace | None:
    """The pod for `NAME`, `pod/NAME`, `deployment/NAME` or `statefulset/NAME` in any of these clusters; None if there
    is none.

    For a workload, its first ready pod, or else its first pod. Raises MoorageError if several clusters or
    namespaces have it.
    """
    word, _, name = target.rpartition("/")
    kind = named(word or "pod")
    workload = next((each for each in WORKLOADS if kind and kind.type is each), None)
    if workload is None and (kind is None or kind.type is not Pod):
        raise MoorageError(f"{target}: must be the name of a pod or a node, deployment/NAME or statefulset/NAME")
    found: list[PodPlace] = []
    for cluster, client in clients:
        pods = (await client.list(Pod, namespace)).items
        if workload is None:
            found += [PodPlace(cluster, pod) for pod in pods if pod.metadata.name == name]
        else:
            for each in (await client.list(workload, namespace)).items:
                if each.metadata.name == name:
                    first = sorted(owned(each, pods), key=lambda pod: not is_ready(pod))[:1]
                    found += [PodPlace(cluster, pod) for pod in first]
    if len(found) > 1:
        places = " and ".join(f"{place.pod.metadata.namespace} of cluster {place.cluster.name}" for place in found)
        raise MoorageError(f"{target}: in {places}; say which one with --cluster and --namespace")
    return found[0] if found else None
