"""The commands in the lab's messages and help. Each works as it is printed: tests execute all of them."""

from moorage.cli import program


def run() -> str:
    """Starts a lab."""
    return f"{program.name()} lab run"


def list_() -> str:
    """Lists the labs that run."""
    return f"{program.name()} lab list"


def stop(lab: str) -> str:
    """Ends a lab."""
    return f"{program.name()} lab stop {lab}"


def get(lab: str, cluster: str, what: str) -> str:
    """Prints objects of a cluster. `what`: the kind, and which namespace."""
    return f"{program.name()} lab get --name {lab} --cluster {cluster} {what}"


def logs(lab: str, cluster: str, namespace: str, workload: str) -> str:
    """Prints what a pod of a workload has printed. `workload`: deployment/NAME or statefulset/NAME."""
    return f"{program.name()} lab logs --name {lab} --cluster {cluster} -n {namespace} {workload}"
