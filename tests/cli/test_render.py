import io
import json
import sys
from ipaddress import IPv4Network, ip_address
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.contract import PROXY, PROXY_LABEL
from moorage.api.core_v1 import Service, ServiceSpec
from moorage.api.manifest import load
from moorage.cli.main import run
from moorage.cli.render import RANGES, Rendered, command, render, with_cluster_ips
from moorage.dataplane.services import Scope
from tests.support.netns import Namespace, netns

__all__ = ["netns"]

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: frontend}
spec: {clusterIP: 10.96.0.10, sessionAffinity: ClientIP, ports: [{port: 9000}]}
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend, namespace: frontend, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
endpoints: [{addresses: [203.0.113.1]}, {addresses: [203.0.113.2]}]
ports: [{port: 80}]
"""
ENDPOINTS = """
apiVersion: v1
kind: Endpoints
metadata: {name: backend, namespace: frontend}
subsets: [{addresses: [{ip: 203.0.113.1}, {ip: 203.0.113.2}], ports: [{port: 80}]}]
"""
DUAL_STACK = """
apiVersion: v1
kind: Service
metadata: {name: both, namespace: a}
spec: {ipFamilyPolicy: RequireDualStack, sessionAffinity: ClientIP, ports: [{port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: both-6, namespace: a, labels: {kubernetes.io/service-name: both}}
addressType: IPv6
endpoints: [{addresses: ["2001:db8::1"], nodeName: node}]
ports: [{port: 5353, protocol: UDP}]
"""


def rendered(*documents: str, labelled_only: bool = False, learn6: bool = False) -> Rendered:
    manifests = load([io.StringIO("\n---\n".join(documents))])
    return render(manifests, Scope("node", labelled_only=labelled_only), learn6=learn6)


def comments(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.startswith("#")]


@pytest.mark.parametrize("documents", [(SERVICE, SLICE), (SLICE, SERVICE), (SERVICE, ENDPOINTS)])
def test_the_script_sends_the_services_packets_to_its_endpoints(documents: tuple[str, ...]) -> None:
    script, warnings = rendered(*documents)
    assert warnings == ()
    assert "10.96.0.10 . tcp . 9000 : goto clientip-10800-" in script
    for address in ("203.0.113.1", "203.0.113.2"):
        assert f": {address} . 80" in script
    assert comments(script) == ["# What node node carries of these manifests."]


def test_a_slice_or_endpoints_of_no_service_is_ignored_with_a_line() -> None:
    lost = SLICE.replace("backend,", "lost,").replace("service-name: backend", "service-name: gone")
    bare = SLICE.replace("backend,", "bare,").replace("labels: {kubernetes.io/service-name: backend}", "labels: {}")
    stray = ENDPOINTS.replace("name: backend", "name: stray")
    script, warnings = rendered(SERVICE, SLICE, lost, bare, stray)
    label = "metadata.labels[kubernetes.io/service-name]"
    assert warnings == (
        f"input: EndpointSlice frontend/lost: {label}: no Service frontend/gone, so the slice is ignored; "
        "add it, or correct the name",
        f"input: EndpointSlice frontend/bare: {label}: missing, so the slice is ignored; "
        "set it to the Service's name",
        "input: Endpoints frontend/stray: metadata.name: no Service frontend/stray, so the Endpoints are "
        "ignored; add it, or correct the name",
    )
    assert script == rendered(SERVICE, SLICE).script


def test_a_service_without_cluster_ip_gets_one_and_the_script_says_so() -> None:
    script, _ = rendered(SERVICE.replace("clusterIP: 10.96.0.10, ", ""), SLICE)
    (_, comment) = comments(script)
    assert comment.startswith("# Service frontend/backend: no clusterIP in the manifests; 10.")
    address = comment.split("; ")[1].split(" ")[0]
    assert ip_address(address) in RANGES["IPv4"]
    assert f"{address} . tcp . 9000 : goto clientip-10800-" in script


def test_a_dual_stack_service_is_carried_in_both_families() -> None:
    script, warnings = rendered(DUAL_STACK, learn6=True)
    assert warnings == ()
    assert "add element inet moorage services6" in script
    assert "2001:db8::1 . 5353" in script
    assert "learn-10800-udp6" in script
    assert "learn-10800-udp6" not in rendered(DUAL_STACK).script


def test_only_labelled_services_are_carried_where_asked_for() -> None:
    assert "10.96.0.10" not in rendered(SERVICE, SLICE, labelled_only=True).script
    labels = f"labels: {{{PROXY_LABEL}: {PROXY}}}}}"
    assert (
        "10.96.0.10"
        in rendered(SERVICE.replace("frontend}", f"frontend, {labels}"), SLICE, labelled_only=True).script
    )


def test_a_service_whose_endpoints_are_unknown_rejects_and_the_script_says_so() -> None:
    script, warnings = rendered(SERVICE.replace("spec: {", "spec: {selector: {app: web}, "))
    assert warnings == ()
    assert comments(script)[1] == (
        "# Service frontend/backend: no endpoints (they are pods, which manifests do not name); "
        "new connections are rejected."
    )
    assert "add element inet moorage addresses4 { 10.96.0.10 }" in script


def test_headless_and_external_name_services_are_not_carried() -> None:
    headless = SERVICE.replace("10.96.0.10", "None")
    named = SERVICE.replace("backend", "db").replace(
        "spec: {clusterIP: 10.96.0.10, ", "spec: {type: ExternalName, externalName: db.example.com, "
    )
    assert rendered(headless, named).script == rendered().script


def test_two_services_of_one_address_and_port_give_a_line() -> None:
    _, (warning,) = rendered(SERVICE, SLICE, SERVICE.replace("backend", "other"))
    assert warning.startswith("Service frontend/other: 10.96.0.10 tcp 9000 is carried for frontend/backend; ")


@given(st.sets(st.text("abc", min_size=1, max_size=3), max_size=40), st.booleans())
def test_cluster_ips_are_distinct_usable_and_independent_of_other_services(names: set[str], both: bool) -> None:
    policy = "RequireDualStack" if both else None
    services = {f"a/{name}": Service(spec=ServiceSpec(ip_family_policy=policy)) for name in names}
    found = {name: service.spec.cluster_ips or [] for name, service in with_cluster_ips(services).items()}
    addresses = [address for each in found.values() for address in each]
    assert len(set(addresses)) == len(addresses) == len(names) * (2 if both else 1)
    for address in addresses:
        network = RANGES[f"IPv{ip_address(address).version}"]
        assert ip_address(address) in network
        assert address not in (str(network[0]), str(network[-1]))
    for name, service in services.items():
        assert (with_cluster_ips({name: service})[name].spec.cluster_ips or []) == found[name]


def test_all_addresses_of_a_range_but_its_first_and_last_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    small = IPv4Network("192.0.2.0/29")
    monkeypatch.setitem(RANGES, "IPv4", small)
    found = with_cluster_ips({f"a/{number}": Service() for number in range(6)})
    assert {each.spec.cluster_ip for each in found.values()} == {str(address) for address in small.hosts()}


def test_a_cluster_ip_that_is_given_is_kept_and_not_given_again() -> None:
    bare = Service()
    (allocated,) = with_cluster_ips({"a/b": bare})["a/b"].spec.cluster_ips or []
    given = Service(spec=ServiceSpec(cluster_ip=allocated))
    both = with_cluster_ips({"a/b": bare, "z/z": given})
    assert both["z/z"] is given
    assert both["a/b"].spec.cluster_ip != allocated


def test_the_command_prints_the_script_and_warns_on_standard_error(tmp_path: Path) -> None:
    (tmp_path / "service.yml").write_text(SERVICE)
    (tmp_path / "slices.yml").write_text(SLICE + "---" + SLICE.replace("backend", "gone"))
    result = CliRunner().invoke(command, ["-f", str(tmp_path / "service.yml"), str(tmp_path / "slices.yml")])
    assert result.exit_code == 0
    assert result.stdout == rendered(SERVICE, SLICE).script
    assert result.stderr.startswith(f"moorage: {tmp_path}/slices.yml: EndpointSlice frontend/gone: ")


FOREIGN = """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: shops.example.com}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: frontend}
rules: []
---
apiVersion: serving.knative.dev/v1
kind: Service
metadata: {name: backend, namespace: frontend}
spec: {template: {}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: backend, namespace: frontend, managedFields: [{manager: kubectl}]}
spec: {somethingNew: true}
"""


def test_kinds_of_no_interest_are_left_out_with_a_line(tmp_path: Path) -> None:
    file = tmp_path / "all.yml"
    file.write_text("---".join([FOREIGN, SERVICE, SLICE]))
    result = CliRunner().invoke(command, ["-f", str(file)])
    assert result.stdout == rendered(SERVICE, SLICE).script
    assert result.stderr == (
        f"moorage: {file}: left out, because Moorage does not read these kinds: "
        "CustomResourceDefinition.apiextensions.k8s.io, Role.rbac.authorization.k8s.io, Service.serving.knative.dev\n"
    )


def test_a_list_of_all_kinds_is_read_for_those_of_interest(tmp_path: Path) -> None:
    file = tmp_path / "all.json"
    items = [yaml.safe_load(text) for text in (SERVICE, SLICE, *FOREIGN.split("---"))]
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    result = CliRunner().invoke(command, ["-f", str(file)])
    assert result.stdout == rendered(SERVICE, SLICE).script
    assert "Role.rbac.authorization.k8s.io" in result.stderr


@pytest.mark.parametrize(
    ("api_version", "kind", "why"),
    [
        ("v1", "Servise", "kind: Servise is unknown; did you mean Service (v1)?"),
        ("v2", "Service", "apiVersion: v2 has no Service; write apiVersion: v1"),
        ("discovery.k8s.io/v1beta1", "EndpointSlice", "apiVersion: discovery.k8s.io/v1beta1 has no EndpointSlice; "),
        ("v1", "", 'kind: "" is not a name; set it'),
    ],
)
def test_a_misspelling_of_a_kind_that_is_read_is_not_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], api_version: str, kind: str, why: str
) -> None:
    (tmp_path / "bad.yml").write_text(f"apiVersion: {api_version}\nkind: '{kind}'\nmetadata: {{name: a}}\n")
    assert run(["render", "-f", str(tmp_path / "bad.yml")]) == 1
    assert capsys.readouterr().err.startswith(f"moorage: {tmp_path}/bad.yml: line 1: {why}")


def test_bad_manifests_give_a_line_for_each_error_and_no_script(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yml").write_text(SERVICE.replace("9000", "99999").replace("10.96.0.10", "x") + "---\nhello\n")
    assert run(["render", "-f", str(tmp_path / "bad.yml")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"moorage: {tmp_path}/bad.yml: Service frontend/backend: spec.ports[0].port: "
        "99999 is not a port; use 1 to 65535",
        f"moorage: {tmp_path}/bad.yml: Service frontend/backend: spec.clusterIP: "
        "x is not an IP address; write one such as 203.0.113.11 or 2001:db8::11",
        f"moorage: {tmp_path}/bad.yml: line 7: hello is not an object; "
        "write a mapping with apiVersion, kind and metadata",
    ]


def test_nft_takes_the_demos_script(netns: Namespace) -> None:
    files = [str(DEMO / name) for name in ("k8s-backend.yml", "k8s-frontend.yml")]
    result = CliRunner().invoke(command, files)
    assert (result.exit_code, result.stderr) == (0, "")
    netns.run("nft", "-c", "-f", "-", input=result.stdout)
    assert netns.run("nft", "list", "ruleset") == ""
    netns.run("nft", "-f", "-", input=result.stdout)
    assert "203.0.113.1 . 80" in netns.run("nft", "list", "map", "inet", "moorage", "slots-tcp4")


def test_nft_takes_a_dual_stack_script(netns: Namespace) -> None:
    netns.run("nft", "-f", "-", input=rendered(SERVICE, SLICE, DUAL_STACK).script)
    assert "2001:db8::1 . 5353" in netns.run("nft", "list", "map", "inet", "moorage", "slots-udp6")


def test_rendering_touches_nothing_and_needs_no_program(netns: Namespace) -> None:
    source = "from moorage.cli.main import run; raise SystemExit(run(['render', '-f', '-']))"
    script = netns.run("env", "PATH=/nonexistent", sys.executable, "-c", source, input=SERVICE)
    assert script == rendered(SERVICE).script
    assert netns.run("nft", "list", "ruleset") == ""
