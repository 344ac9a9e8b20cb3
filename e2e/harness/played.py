"""Both clusters on this machine, from nothing to ready."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from e2e.harness import builds, image, pause, topology
from e2e.harness.cluster import PlayedCluster
from e2e.harness.clusters import IMAGE, Clusters
from e2e.harness.dns import InternetDns
from e2e.harness.world import World

_SETTINGS = ("net.ipv4.ip_forward=1",)


class PlayedClusters(Clusters):
    """Both, with what only a played world lets a test do: `a.cloud`, `a.cut()`, `dns`."""

    a: PlayedCluster
    b: PlayedCluster

    def __init__(self, world: World) -> None:
        self.world = world
        self.dns = InternetDns(world)
        a, b = (PlayedCluster(world, site, self.dns) for site in topology.SITES)
        super().__init__(a, b, IMAGE, lambda: world.joining(topology.INTERNET))


@contextmanager
def clusters(moorage: Callable[[], Path] = image.build) -> Iterator[PlayedClusters]:
    """Two clusters, ready for pods, until the end of the block. `moorage` makes the archive of Moorage's image."""
    images = [pause.archive(), moorage()]
    builds.built(builds.KUBERNETES)
    builds.built("coredns")
    with World("clusters") as world:
        connect(world)
        both = PlayedClusters(world)
        try:
            both.dns.start()
            both.a.begin()
            both.b.begin()
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda cluster: cluster.complete(images), (both.a, both.b)))
            both.a.wait_for_nodes()
            both.b.wait_for_nodes()
            yield both
        finally:
            both.a.cloud.stop()
            both.b.cloud.stop()


def connect(world: World) -> None:
    """Make the networks."""
    for network in topology.namespaces():
        world.netns(network)
        world.execute("sysctl", "-qw", *_SETTINGS, network=network)
    for network, commands in topology.links().items():
        world.execute("ip", "-batch", "-", network=network, input="\n".join(commands) + "\n")
    for site in topology.SITES:
        for network, rules in topology.masquerading(site).items():
            world.execute("nft", "-f", "-", network=network, input=rules)
