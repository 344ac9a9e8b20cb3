"""What keeps the cluster source from reading another cluster: Secrets, kubeconfigs, rights, and the gate."""

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import (
    Secret,
)
from moorage.core.admission import Gate
from moorage.discovery.tenant import Kubeconfig, read_kubeconfig
from moorage_lab.apiserver import credentials
from testing.eventually import eventually
from tests.support.tenants import LOOPBACK_ALLOWED, kubeconfig_of
from tests.support.two_clusters import KEY, TwoClusters, external, two_clusters


@pytest.fixture
async def fixture() -> AsyncIterator[TwoClusters]:
    async with two_clusters() as made:
        yield made


def message(fixture: TwoClusters) -> str:
    assert fixture.now.problem is not None
    assert fixture.now.problem.since == "T"
    text = fixture.now.problem.message
    assert text.startswith("spec.endpoints[0].cluster: ")
    return text.removeprefix("spec.endpoints[0].cluster: ")


async def test_a_secret_that_is_missing_bad_or_goes_away_leaves_what_was_found(fixture: TwoClusters) -> None:
    fixture.sources.set(KEY, external())
    await fixture.until(None, "SecretMissing")
    assert message(fixture) == "Secret frontend/cluster-a does not exist; create it"
    await fixture.give("users: [{name: x, user: {exec: {command: aws}}}]")
    await fixture.until(None, "KubeconfigRefused")
    assert message(fixture).startswith("Secret frontend/cluster-a, key kubeconfig: users[x].user.exec: programs")
    await fixture.service("backend1", "203.0.113.11")
    await fixture.give()
    await fixture.until({"backend1": "203.0.113.11"})
    await fixture.give("broken")
    await fixture.until({"backend1": "203.0.113.11"}, "KubeconfigRefused")
    assert fixture.sources.follower.clusters.count == 0
    await fixture.here.delete(Secret, "frontend", "cluster-a")
    await fixture.until({"backend1": "203.0.113.11"}, "SecretMissing")
    await fixture.give()
    await fixture.until({"backend1": "203.0.113.11"})


async def test_a_token_that_is_not_accepted_is_said_and_a_new_one_is_taken(fixture: TwoClusters) -> None:
    await fixture.service("backend1", "203.0.113.11")
    await fixture.give(kubeconfig_of(replace(fixture.other.config, token="expired")))
    fixture.sources.set(KEY, external())
    await fixture.until(None, "KubeconfigRejected")
    assert "they may have expired: make a new kubeconfig and put it there" in message(fixture)
    await fixture.give()
    await fixture.until({"backend1": "203.0.113.11"})


async def test_a_right_that_the_other_cluster_does_not_give_is_said(fixture: TwoClusters) -> None:
    fixture.other.faults.fail(50, code=403, path="/services")
    await fixture.give()
    fixture.sources.set(KEY, external())
    await fixture.until(None, "ClusterForbids")
    assert message(fixture).startswith(
        "the other cluster does not let the user of Secret frontend/cluster-a get, list and watch services in "
        "namespace backend ("
    )
    fixture.other.faults.clear()
    await fixture.until({})


async def test_a_wrong_authority_is_said(fixture: TwoClusters) -> None:
    await fixture.give(kubeconfig_of(replace(fixture.other.config, ca=credentials.issue().ca)))
    fixture.sources.set(KEY, external())
    await fixture.until(None, "ClusterUnreachable")
    assert "TLS: " in message(fixture)
    assert "check certificate-authority" in message(fixture)


async def test_another_cluster_that_cannot_be_reached_leaves_what_was_found(
    fixture: TwoClusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moorage.discovery.watched.GRACE_SECONDS", 0.2)
    await fixture.give()
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    fixture.other.faults.fail(4, code=500, path="/services")
    fixture.other.faults.drop_watches()
    await fixture.until({"backend1": "203.0.113.11"}, "ClusterRefused")
    fixture.other.faults.clear()
    await fixture.until({"backend1": "203.0.113.11"})


async def test_a_server_inside_this_cluster_is_refused(fixture: TwoClusters) -> None:
    for host in ("169.254.169.254", "[::1]", "0.0.0.0", "[64:ff9b::7f00:1]"):
        await fixture.give(kubeconfig_of(replace(fixture.other.config, server=f"https://{host}:6443")))
        fixture.sources.set(KEY, external())
        await fixture.until(None, "KubeconfigRefused")
        assert "the server must be outside this cluster" in message(fixture)
        fixture.sources.remove(KEY)


async def test_a_kubeconfig_is_read_once_for_all_sources_and_only_its_server_is_looked_at_again(
    fixture: TwoClusters, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counting(secret: Secret, key: str) -> Kubeconfig:
        read.append(key)
        return read_kubeconfig(secret, key)

    monkeypatch.setattr("moorage.discovery.cluster.read_kubeconfig", counting)
    monkeypatch.setattr("moorage.discovery.cluster.LOOK_AGAIN_SECONDS", 0.05)
    fixture.gate = Gate()
    await fixture.give()
    fixture.sources.set(KEY, external(None, {"app": "backend"}))
    await fixture.until(None, "KubeconfigRefused")
    fixture.gate = LOOPBACK_ALLOWED
    await fixture.until({})
    assert read == ["kubeconfig"]


@pytest.mark.parametrize("host", ["127.0.0.1", "api.example.com"])
async def test_a_server_that_the_gate_comes_to_refuse_is_spoken_to_no_more(
    fixture: TwoClusters, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr("moorage.discovery.watched.GRACE_SECONDS", 0.2)
    fixture.names.put("api.example.com", "127.0.0.1")
    server = fixture.other.config.server.replace("127.0.0.1", host)
    await fixture.give(
        kubeconfig_of(replace(fixture.other.config, server=server), **{"tls-server-name": "127.0.0.1"})
    )
    await fixture.service("backend1", "203.0.113.11")
    fixture.sources.set(KEY, external())
    await fixture.until({"backend1": "203.0.113.11"})
    fixture.gate = Gate()
    fixture.sources.gate_changed()
    await fixture.until(
        {"backend1": "203.0.113.11"}, "KubeconfigRefused" if host == "127.0.0.1" else "ClusterUnreachable"
    )

    async def refused() -> bool:
        return "127.0.0.1 is " in message(fixture)

    await eventually(refused)
    fixture.gate = LOOPBACK_ALLOWED
    fixture.sources.gate_changed()
    await fixture.until({"backend1": "203.0.113.11"})
