"""Parts of Kubernetes' API that the lab does not serve, and the lab's commands for them. Pure.

`kubectl logs`, `exec`, `attach`, `port-forward`, `cp` and `debug` go through subresources of pods. In a real cluster
the kubelet serves them; in the lab a pod's processes run on this machine, where commands reach them directly.
"""

import shlex
from collections.abc import Mapping, Sequence

from moorage.cli import program
from moorage_lab import hints
from moorage_lab.apiserver.status import StatusError


def refusal(cluster: str, path: str, query: Mapping[str, Sequence[str]]) -> StatusError | None:
    """A 405 that names the command for a path that is not served; None for any other path.

    `cluster` is the cluster's name in the lab; `query` has all values of each parameter of the request.
    """
    match path.strip("/").split("/"):
        case ["api", "v1", "namespaces", namespace, "pods", pod, verb, *_]:
            advice = _pod(cluster, namespace, pod, verb, query)
        case ["api", "v1", "namespaces", namespace, "services", _, "proxy" as verb, *_]:
            advice = _network() + _command("exec", cluster, namespace, "POD", "--", "COMMAND")
        case ["api", "v1", "nodes", node, "proxy" as verb, *_]:
            advice = _network() + _command("exec", cluster, "", node, "--", "COMMAND")
        case _:
            return None
    if not advice:
        return None
    return StatusError(405, "MethodNotAllowed", f"the lab's API server does not serve {verb}; {advice}")


def _pod(cluster: str, namespace: str, pod: str, verb: str, query: Mapping[str, Sequence[str]]) -> str:
    container = [word for name in query.get("container", ()) for word in ("--container", name)]
    follow = ["--follow"] if "true" in query.get("follow", ()) else []
    inside = _command("exec", cluster, namespace, pod, "--")
    match verb:
        case "log":
            return "print what the pod prints with: " + _command("logs", cluster, namespace, *container, *follow, pod)
        case "attach":
            return "follow what the pod prints with: " + _command(
                "logs", cluster, namespace, *container, "--follow", pod
            )
        case "exec":
            return f"run the command with: {inside} {shlex.join(query.get('command', ())) or 'COMMAND'}"
        case "ephemeralcontainers":
            return f"a pod has the programs of this machine; run one in it with: {inside} COMMAND"
        case "portforward" | "proxy":
            return f"{_network()}{inside} COMMAND"
        case _:
            return ""


def _network() -> str:
    return f"reach a LoadBalancer Service at the port that this lists: {hints.list_()}; or run a client inside with: "


def _command(verb: str, cluster: str, namespace: str, *words: str) -> str:
    place = ["--cluster", cluster, *(["--namespace", namespace] if namespace else [])]
    return f"{program.name()} {shlex.join(['lab', verb, *place, *words])}"
