"""A churn run: everything fails and changes while pods connect, and at last it is quiet; and its history."""

import asyncio
import time
from pathlib import Path

from e2e.churn import history
from e2e.churn.faults import plan
from e2e.churn.history import AnyRecord, Run, Stall
from e2e.churn.look import look
from e2e.churn.play import Player, play
from e2e.churn.scene import NAMESPACE, Scene, staged
from e2e.harness.moored import NODES, PORT
from e2e.harness.outside import SERVERS
from e2e.harness.played import PlayedClusters
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.nft import KernelNft
from testing.stalls import Stalls

QUIET_SECONDS = 10.0
"""After everybody is well again: more than anybody may take to follow."""
STALL_SECONDS = 0.1
"""From when on it is noted that the machine let nobody run."""


def run(played: PlayedClusters, directory: Path, seed: int, seconds: float) -> list[AnyRecord]:
    """The history of so many seconds of faults. Its parts are in `directory`, which is made."""
    with Stalls() as stalls, staged(played, directory) as scene:
        scene.journal.note(Run(at=time.monotonic(), seed=seed, nodes=[*scene.cast.nodes]))
        play(Player(scene).do, plan(seed, seconds, scene.cast))
        scene.until_settled()
        time.sleep(QUIET_SECONDS)
        _look(scene)
        for start, end in stalls.longer(STALL_SECONDS):
            scene.journal.note(Stall(at=end, start=start))
        return history.merged(*map(history.read, directory.glob("*.jsonl")))


def _look(scene: Scene) -> None:
    """Into the kernel of each node."""
    found = scene.b.get("-n", NAMESPACE, "services")["items"]
    services = {ServiceAddress(each["spec"]["clusterIP"], "tcp", PORT): each["metadata"]["name"] for each in found}
    endpoints = {each.address: each.name for each in SERVERS}
    for node in NODES:
        nft = KernelNft(scene.world.inside(node.network))
        scene.journal.note(asyncio.run(look(time.monotonic(), node.name, nft, services, endpoints)))
