"""What to try after the demo. Tests execute these commands."""

import shutil
from pathlib import Path

from moorage.cli import program
from moorage_lab import hints
from moorage_lab.state import LabState, kubeconfig


def after_the_demo() -> list[tuple[str, str]]:
    """(purpose, command) of what to do when the demo has ended."""
    return [
        ("The same, and the clusters stay up to play with", f"{program.name()} demo --keep"),
        ("Two clusters for services of your own: see the README", hints.run()),
    ]


def beside_the_demo(lab: LabState, directory: Path, scaled: str) -> list[tuple[str, str]]:
    """(purpose, command) of what to do in another terminal with the clusters that the demo has left running.

    `scaled`: the backend Deployment that has no pods.
    """
    relays = {relay.service: relay.port for relay in lab.relays}
    moorage, name = program.name(), f"--name {lab.name}"
    other = "backend2-lb" if scaled == "backend3" else "backend3-lb"
    objects = [("See its pods", hints.get(lab.name, "b", "-A pods"))]
    if shutil.which("kubectl"):
        objects = [("The same with kubectl", f"KUBECONFIG={kubeconfig(directory, 'b')} kubectl get pods -A")]
    return [
        ("Ask the frontend", f"curl http://localhost:{relays['frontend-lb']}"),
        ("See what the operator says", hints.get(lab.name, "b", "-n frontend xsvc -o wide")),
        (
            "See where clients are moored, since when, and why",
            hints.get(lab.name, "b", "-n frontend moorings -o wide"),
        ),
        (
            "Move one",
            f"{moorage} lab patch {name} --cluster b -n frontend mooring/backend.node.node-1 "
            f"""-p '{{"spec":{{"endpoint":"{other}"}}}}'""",
        ),
        (
            "See what a pod says whose Mooring was edited",
            f"{moorage} lab logs {name} --cluster b worker-1",
        ),
        (
            "Kill the operator: it comes back, and nobody is moved",
            f"{moorage} lab kill {name} --cluster b operator",
        ),
        (
            "Bring the backend back that is gone",
            f"{moorage} lab scale {name} --cluster a -n backend deployment/{scaled} --replicas 1",
        ),
        *objects,
        ("Be in the frontend's pod", f"{moorage} lab exec {name} deployment/frontend -- bash"),
        ("End it", hints.stop(lab.name)),
    ]
