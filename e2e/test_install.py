"""The README's install section, by its own commands, and what a person then has."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from e2e.harness import topology
from e2e.harness.clusters import Clusters
from e2e.harness.install import Installation, commands, example
from e2e.harness.played import PlayedClusters
from e2e.harness.topology import INTERNET

OPERATOR, SOURCE, DEMO = "The operator, in cluster B", "The other cluster, A", "The demo, in cluster B"
REMOVAL = "Removing it, and keeping the Services"
CHECK = "Check the cluster, before and after"
AGENTS, REMOVAL_OF_AGENTS = "Node agents, in cluster B", "Removing the node agents"
"""e2e/test_agent.py follows these."""
ANSWER = re.compile(r"^frontend\[frontend-[\w-]+\] -> backend\[(backend[12])-[\w-]+\]$", re.MULTILINE)
DESCRIBE = ("-n", "frontend", "describe", "xsvc", "backend")
ACCOUNT = "system:serviceaccount:moorage-system:moorage-operator"


@pytest.fixture(scope="module")
def installation(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    yield (found := Installation(clusters, tmp_path_factory.mktemp("install")))
    found.remove()


@pytest.fixture(scope="module")
def printed(installation: Installation) -> str:
    """What the commands of the last step print."""
    found = commands()
    assert list(found) == [CHECK, "The image", OPERATOR, AGENTS, SOURCE, DEMO, REMOVAL_OF_AGENTS, REMOVAL]
    installation.run(*found[OPERATOR])
    installation.run(*found[SOURCE])
    output = installation.run(*found[DEMO])
    print(output)
    return output


@pytest.fixture
def frontend(clusters: Clusters, printed: str) -> str:
    """The frontend's URL."""
    return f"http://{clusters.b.load_balancer('frontend', 'frontend-lb')}"


def asked(clusters: Clusters, url: str, requests: int = 24) -> list[str]:
    """Which backend answered each request."""
    return ANSWER.findall("".join(clusters.curl(url) for _ in range(requests)))


def test_before_an_installation_the_check_says_that_it_is_possible(installation: Installation) -> None:
    """The first test of this module: nothing is installed."""
    printed = installation.run(*commands()[CHECK])  # status 0, or it raises
    print(printed)
    assert "you may install Moorage" in printed
    assert installation.check() == installation.check("--pre")


def test_after_it_the_check_says_that_nothing_fails(installation: Installation, printed: str) -> None:
    status, found = installation.check()
    assert status == 0
    assert found["operator"][1].startswith("2 of 2 replicas available")
    assert found["leader"][1].startswith("moorage-operator-")
    assert found["node agents"] == ("pass", "there are none, and no Services with proxy: moorage, which need them")


def test_the_demo_s_frontend_always_reaches_the_same_backend(clusters: Clusters, printed: str, frontend: str) -> None:
    answered = ANSWER.findall(printed)
    assert len(answered) == 5
    assert set(answered + asked(clusters, frontend)) == {answered[0]}


def test_the_frontend_is_asked_again_while_its_load_balancer_is_not_ready(
    played: PlayedClusters, installation: Installation, frontend: str
) -> None:
    """A cloud tells the address before all of it works: then there is no way to the host for a moment."""
    address = frontend.removeprefix("http://")
    (request,) = (line for line in commands()[DEMO] if "curl" in line)
    played.world.execute("ip", "route", "add", "unreachable", f"{address}/32", network=INTERNET)
    there_soon = f"(sleep 1; ip route del unreachable {address}/32) &"
    assert len(ANSWER.findall(installation.run(f"FRONTEND={address}", there_soon, request, "wait"))) == 5


def test_no_address_was_typed() -> None:
    typed = "\n".join(line for lines in commands().values() for line in lines)
    assert "deploy/demo/k8s-frontend-external.yml" in typed
    assert re.findall(r"\d+\.\d+\.\d+\.\d+", typed) == []


def test_another_image_and_configuration_are_laid_over_it(installation: Installation) -> None:
    overlay = installation.directory / "my-moorage"
    overlay.mkdir()
    (overlay / "kustomization.yaml").write_text(example("# my-moorage/kustomization.yaml"))
    (overlay / "config.yaml").write_text("admission: {refuse: [10.244.0.0/16]}\n")
    objects = list(yaml.safe_load_all(installation.run("kubectl kustomize my-moorage")))
    (deployment,) = (each for each in objects if each["kind"] == "Deployment")
    (configured,) = (each for each in objects if each["kind"] == "ConfigMap")
    pod = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example.com/moorage:0.1.0"
    assert configured["data"]["config.yaml"] == "admission: {refuse: [10.244.0.0/16]}\n"
    assert pod["volumes"][0]["configMap"]["name"] == configured["metadata"]["name"]


def test_one_line_shows_how_a_service_is(printed: str) -> None:
    header, line = re.findall(r"^NAMESPACE.*\n.*$", printed, re.MULTILINE)[0].splitlines()
    columns = dict(zip(header.split(), line.split(), strict=False))
    assert columns["NAME"] == "backend"
    assert columns["HEALTHY"] == "2/2"
    assert columns["READY"] == "True"


def test_describe_shows_endpoints_conditions_and_what_happened(clusters: Clusters, printed: str) -> None:
    # An Event is written after the status, and this one last.
    clusters.b.eventually("its Events", lambda: re.search(r"Normal +Ready ", clusters.b.kubectl(*DESCRIBE)))
    described = clusters.b.kubectl(*DESCRIBE)
    print(described)
    for name in ("backend1-lb", "backend2-lb"):
        address = clusters.a.load_balancer("backend", name)
        assert re.search(rf"Address: +{address}\n", described)
        assert re.search(rf"Normal +EndpointAdded .* moorage-operator +{name} \({address}\)", described)
    assert re.search(r"Message: +2 of 2 endpoints take connections", described)


def test_both_replicas_are_ready_and_restricted(clusters: Clusters, printed: str) -> None:
    pods = clusters.b.get("-n", "moorage-system", "pods", "-l", "app.kubernetes.io/name=moorage")["items"]
    assert [pod["status"]["containerStatuses"][0]["ready"] for pod in pods] == [True, True]
    assert len({pod["spec"]["nodeName"] for pod in pods}) == 2
    assert [pod["status"]["containerStatuses"][0]["restartCount"] for pod in pods] == [0, 0]
    for pod in pods:
        user = clusters.b.kubectl("-n", "moorage-system", "exec", pod["metadata"]["name"], "--", "id", "-u")
        assert user.strip() == "65532"
    refused = clusters.b.refused(
        *("-n", "moorage-system", "run", "unrestricted", "--image=moorage", "--dry-run=server")
    )
    assert "violates PodSecurity" in refused


@pytest.mark.parametrize(
    "words",
    [
        "list externalservices --all-namespaces",
        "patch externalservices --subresource=status -n frontend",
        "create services -n frontend",
        "delete endpointslices -n frontend",
        "patch moorings -n frontend",
        "delete moorings -n frontend",
        "list statefulsets --all-namespaces",
        "watch jobs --all-namespaces",
        "create events -n frontend",
        "watch pods --all-namespaces",
        "list servicecidrs",
        "patch leases/moorage-operator -n moorage-system",
        "watch secrets/cluster-a -n frontend",
    ],
)
def test_the_operator_may_do_what_it_does(clusters: Clusters, printed: str, words: str) -> None:
    assert may(clusters, words)


@pytest.mark.parametrize(
    "words",
    [
        "list secrets --all-namespaces",
        "get secrets -n frontend",
        "get secrets/another -n frontend",
        "get secrets -n moorage-system",
        "patch externalservices -n frontend",
        "delete externalservices -n frontend",
        "patch statefulsets -n frontend",
        "create endpointslices --subresource=restricted -n frontend",
        "patch services --subresource=status -n frontend",
        "create pods -n frontend",
        "create pods --subresource=exec -n frontend",
        "patch nodes",
        "patch leases -n moorage-system",
        "patch leases/moorage-operator -n kube-system",
        "create rolebindings -n frontend",
        "impersonate users",
    ],
)
def test_the_operator_may_do_nothing_else(clusters: Clusters, printed: str, words: str) -> None:
    assert not may(clusters, words)


def may(clusters: Clusters, words: str) -> bool:
    asked = clusters.b.run_kubectl("auth", "can-i", f"--as={ACCOUNT}", *words.split(), check=False)
    return asked.strip().splitlines()[-1] == "yes"


def test_who_may_view_a_namespace_may_view_these_in_it_and_nobody_may_write_them(
    clusters: Clusters, printed: str
) -> None:
    def rules(role: str) -> list[tuple[str, list[str]]]:
        found = clusters.b.get("clusterrole", role)["rules"] or []
        return [
            (resource, rule["verbs"])
            for rule in found
            if rule.get("apiGroups") == ["moorage.dev"]
            for resource in rule["resources"]
        ]

    read = ["get", "list", "watch"]
    clusters.b.eventually(
        "the rights of view", lambda: sorted(rules("view")) == [("externalservices", read), ("moorings", read)]
    )
    for role in ("edit", "admin"):
        assert all(verbs == read for _, verbs in rules(role))


def test_a_network_policy_is_applied_with_the_rest(installation: Installation, printed: str) -> None:
    command = "kubectl --context b -n moorage-system get networkpolicies -o name"
    assert installation.run(command).split() == ["networkpolicy.networking.k8s.io/moorage-operator"]


def test_the_account_in_the_other_cluster_may_read_services_there_and_nothing_else(
    installation: Installation, printed: str
) -> None:
    kubectl = "kubectl --kubeconfig cluster-a.kubeconfig"
    assert "backend1-lb" in installation.run(f"{kubectl} get services")
    for words in ("list pods", "get secrets", "patch services", "list services -A", "list services -n default"):
        assert installation.run(f"{kubectl} auth can-i {words} || true").splitlines()[-1] == "no"


def test_without_session_affinity_both_are_used(clusters: Clusters, frontend: str) -> None:
    address = clusters.b.get("-n", "frontend", "service", "backend")["spec"]["clusterIP"]
    affinity(clusters, "None")
    clusters.b.eventually("answers of both", lambda: set(asked(clusters, frontend)) == {"backend1", "backend2"})
    affinity(clusters, "ClientIP")
    clusters.b.eventually("answers of one", lambda: len(set(asked(clusters, frontend))) == 1)
    assert clusters.b.get("-n", "frontend", "service", "backend")["spec"]["clusterIP"] == address


@pytest.mark.parametrize("node", topology.B.nodes, ids=lambda node: node.proxy_mode)
def test_clients_stay_with_a_backend_whatever_mode_kube_proxy_has(
    played: PlayedClusters, printed: str, node: topology.Node
) -> None:
    ask = "import urllib.request as u; print(*(u.urlopen('http://backend:9000').read().decode() for _ in range(24)))"
    at_node = f'--overrides={{"spec": {{"nodeName": "{node.name}"}}}}'
    run = ["run", "client", f"--image={played.image}", "--image-pull-policy=IfNotPresent", at_node]

    def backends() -> set[str]:
        return set(re.findall(r"backend\[(backend[12])-", in_frontend("exec", "client", "--", "python", "-c", ask)))

    def in_frontend(*arguments: str) -> str:
        return played.b.kubectl("-n", "frontend", *arguments)

    mode = played.world.execute("curl", "--silent", "http://127.0.0.1:10249/proxyMode", network=node.network)
    assert mode == node.proxy_mode
    in_frontend(*run, "--command", "--", "sleep", "600")
    try:
        in_frontend("wait", "pod/client", "--for=condition=Ready", "--timeout=60s")
        assert len(backends()) == 1
        affinity(played, "None")
        played.b.eventually("answers of both", lambda: len(backends()) == 2)
        affinity(played, "ClientIP")
        played.b.eventually("answers of one", lambda: len(backends()) == 1)
    finally:
        affinity(played, "ClientIP")
        in_frontend("delete", "pod", "client", "--grace-period=1")


def affinity(clusters: Clusters, value: str) -> None:
    patch = f'{{"spec": {{"sessionAffinity": "{value}"}}}}'
    clusters.b.kubectl("-n", "frontend", "patch", "xsvc", "backend", "--type=merge", "-p", patch)


def test_clients_of_a_backend_that_goes_down_go_on_at_the_other(clusters: Clusters, frontend: str) -> None:
    (pinned,) = set(asked(clusters, frontend))
    (other,) = {"backend1", "backend2"} - {pinned}
    scale = ("-n", "backend", "scale", f"deployment/{pinned}")
    clusters.a.kubectl(*scale, "--replicas=0")
    try:
        clusters.b.eventually("answers of the other", lambda: set(asked(clusters, frontend)) == {other})
        # Told after it is done.
        table = ("get", "xsvc", "-A", "-o", "wide")
        clusters.b.eventually("the table says so", lambda: "1/2" in clusters.b.kubectl(*table))
        event = re.compile(rf"Warning +EndpointUnhealthy .*{pinned}-lb")
        clusters.b.eventually("an Event says so", lambda: event.search(clusters.b.kubectl(*DESCRIBE)))
        print(clusters.b.kubectl(*table))
    finally:
        clusters.a.kubectl(*scale, "--replicas=1")
    clusters.b.kubectl("-n", "frontend", "wait", "--for=condition=Healthy", "--timeout=60s", "xsvc/backend")


def test_what_the_operator_made_goes_with_the_external_service(clusters: Clusters, frontend: str) -> None:
    clusters.b.kubectl("-n", "frontend", "delete", "xsvc", "backend")
    label = ("-l", "kubernetes.io/service-name=backend")
    clusters.b.eventually(
        "Service and slices gone",
        lambda: (
            not clusters.b.kubectl("-n", "frontend", "get", "endpointslices", *label, "-o", "name")
            and not clusters.b.kubectl("-n", "frontend", "get", "service", "backend", "--ignore-not-found")
        ),
    )


def test_moorage_is_removed_and_its_services_stay(
    clusters: Clusters, installation: Installation, frontend: str
) -> None:
    """The last test of this module: nothing is left of the installation."""
    stop, let_go, remove = commands()[REMOVAL]
    # The test before has deleted the ExternalService; the Secret and the role are still there.
    installation.run(*(each for each in commands()[DEMO] if " create " not in each))
    (answered,) = set(asked(clusters, frontend))

    def made() -> list[dict[str, Any]]:
        slices = ("-l", "kubernetes.io/service-name=backend")
        found = [clusters.b.get("-n", "frontend", "service", "backend")]
        return [*found, *clusters.b.get("-n", "frontend", "endpointslices", *slices)["items"]]

    before = made()
    installation.run(stop)
    assert clusters.b.get("-n", "frontend", "xsvc", "backend")["status"]["healthy"] == "2/2"
    assert [each["spec"] for each in made()[:1]] == [before[0]["spec"]]
    installation.run(let_go)
    installation.run(remove)
    assert "externalservices" not in clusters.b.kubectl("api-resources", "-o", "name")
    left = made()
    assert [each["metadata"]["uid"] for each in left] == [each["metadata"]["uid"] for each in before]
    assert [each["metadata"].get("ownerReferences") for each in left] == [None] * len(left)
    assert left[1]["endpoints"] == before[1]["endpoints"]
    assert set(asked(clusters, frontend)) == {answered}
    status, found = installation.check()
    assert (status, found["your rights"][0]) == (0, "pass")
    assert "operator" not in found
