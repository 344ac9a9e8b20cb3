"""That nft takes the rules that Moorage is compared with, and that they pin clients as kube-proxy does."""

from bench import kubeproxy
from tests.support.netns import Namespace, netns

__all__ = ["netns"]


def rules(count: int) -> str:
    return kubeproxy.rules("10.96.0.1", 80, [f"198.18.0.{n}:80" for n in range(1, count + 1)], "10.244.0.0/24")


def test_nft_takes_the_rules(netns: Namespace) -> None:
    netns.run("nft", "-f", "-", input=rules(100))
    assert "vmap @service-ips" in netns.run("nft", "list", "table", *kubeproxy.TABLE.split())


def test_there_is_one_set_and_one_rule_for_each_endpoint() -> None:
    lines = rules(7).splitlines()
    assert sum("add set" in line and "timeout 10800s" in line for line in lines) == 7
    assert sum("service-bench ip saddr @affinity-" in line for line in lines) == 7
    assert sum("update @affinity-" in line for line in lines) == 7


def test_sessions_are_looked_at_before_an_endpoint_is_drawn() -> None:
    chain = [line for line in rules(2).splitlines() if line.startswith("add rule ip kube-proxy-bench service-bench ")]
    assert ["saddr @affinity" in line for line in chain] == [True, True, False]
    assert "numgen random mod 2 vmap" in chain[-1]
