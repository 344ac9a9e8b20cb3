"""Bad manifests, and every line that reading each gives: `bad_input.txt` holds the lines."""

from pathlib import Path

import pytest

from moorage.api.manifest import read

EXPECTED = Path(__file__).with_name("bad_input.txt")


def service(spec: str, metadata: str = "{name: backend, namespace: frontend}") -> str:
    return f"{{apiVersion: v1, kind: Service, metadata: {metadata}, spec: {spec}}}"


def with_port(port: str) -> str:
    return service(f"{{ports: [{port}]}}")


def endpoint_slice(rest: str) -> str:
    return (
        "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, "
        f"metadata: {{name: backend-1, namespace: frontend}}, {rest}}}"
    )


def with_address(address: str, address_type: str = "IPv4") -> str:
    return endpoint_slice(f'addressType: {address_type}, endpoints: [{{addresses: ["{address}"]}}]')


def with_hints(hints: str) -> str:
    return endpoint_slice(f"addressType: IPv4, endpoints: [{{addresses: [203.0.113.1], hints: {{{hints}}}}}]")


def endpoints(subset: str) -> str:
    return (
        f"{{apiVersion: v1, kind: Endpoints, metadata: {{name: backend, namespace: frontend}}, subsets: [{subset}]}}"
    )


def deployment(spec: str) -> str:
    return f"{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: frontend}}, spec: {spec}}}"


def with_container(container: str) -> str:
    return deployment(
        "{selector: {matchLabels: {app: web}}, "
        f"template: {{metadata: {{labels: {{app: web}}}}, spec: {{containers: [{container}]}}}}}}"
    )


PORT = "{ports: [{port: 80}]"  # to be closed by the user, after more fields

TEXTS: dict[str, str] = {
    # --- Not YAML
    "a colon too many": "kind: a: b",
    "a tab for indentation": "metadata:\n\tname: x",
    "an open bracket": "kind: [Service",
    "JSON with a comma missing": '{"kind": "Service"\n "apiVersion": "v1"}',
    "a duplicate key": "apiVersion: v1\nkind: Service\nspec:\n  ports:\n  - port: 80\n    port: 81\n",
    "a duplicate key in JSON": '{"apiVersion": "v1", "kind": "Service", "kind": "Service"}',
    "a duplicate key by another spelling": "on: 1\ntrue: 2\n",
    "an alias without anchor": "a: *b",
    "an anchor inside itself": "a: &a [*a]",
    "a list as a key": "[1, 2]: 3",
    "an empty key": "? \n: 3",
    "a tag of another language": "a: !!python/object:os.system {}",
    "a tag that does not fit": "a: !!int ten",
    "infinity": "a: .inf",
    "a merge of text": "<<: text",
    "deep nesting": "[" * 101 + "]" * 101,
    "deep nesting in JSON": '{"a": ' + "[" * 101 + "]" * 101 + "}",
    "a control character": "a: \x00b",
    # --- Not an object
    "text": "hello",
    "a list": "- apiVersion: v1",
    "no apiVersion": "kind: Service\nmetadata: {name: backend}",
    "no kind": "apiVersion: v1\nmetadata: {name: backend}",
    "a kind that is a number": "apiVersion: v1\nkind: 5",
    "a kind nobody knows": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}",
    "a kind misspelt": "apiVersion: v1\nkind: Servce\nmetadata: {name: c}",
    "a kind of another group": "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: c}",
    "no name": "apiVersion: v1\nkind: Service\nspec: {ports: [{port: 80}]}",
    "a generated name": service(PORT + "}", "{generateName: backend-}"),
    # --- Metadata
    "a name in capitals": service(PORT + "}", "{name: Backend}"),
    "a name that begins with a digit": service(PORT + "}", "{name: 1backend}"),
    "a name that is a number": service(PORT + "}", "{name: 80}"),
    "a name that would end the line": service(PORT + "}", '{name: "a\\nb\\e[31m"}'),
    "a bad namespace": service(PORT + "}", "{name: backend, namespace: front.end}"),
    "a namespace where none may be": "{apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: b}}",
    "a label that is a number": service(PORT + "}", "{name: backend, labels: {version: 1.1}}"),
    "a bad label": service(PORT + "}", "{name: backend, labels: {-app: web, app: we/b}}"),
    "a bad annotation": service(PORT + "}", '{name: backend, annotations: {"a b": c}}'),
    "an unknown field of metadata": service(PORT + "}", "{name: backend, label: {a: b}}"),
    "an owner without uid": service(
        PORT + "}", "{name: backend, ownerReferences: [{apiVersion: v1, kind: Pod, name: p}]}"
    ),
    # --- Service
    "a Service without spec": "{apiVersion: v1, kind: Service, metadata: {name: backend}}",
    "a Service without ports": service("{selector: {app: web}}"),
    "ports that are no list": service("{ports: {port: 80}}"),
    "a port out of range": with_port("{port: 99999}"),
    "port zero": with_port("{port: 0}"),
    "a negative port": with_port("{port: -1}"),
    "a port in quotes": with_port('{port: "80"}'),
    "a port that is half a number": with_port("{port: 80.5}"),
    "a port beyond 64 bits": with_port("{port: 99999999999999999999999}"),
    "no port number": with_port("{protocol: TCP}"),
    "a port that is text": with_port("http"),
    "a protocol nobody knows": with_port("{port: 80, protocol: tcp}"),
    "an unknown field of a port": with_port("{port: 80, targetport: 8080}"),
    "a target out of range": with_port("{port: 80, targetPort: 65536}"),
    "a target with a bad name": with_port("{port: 80, targetPort: http_port}"),
    "a target that is a number in quotes": with_port('{port: 80, targetPort: "8080"}'),
    "two ports without names": with_port("{port: 80}, {port: 81}"),
    "two ports of one name": with_port("{name: a, port: 80}, {name: a, port: 81}"),
    "one port twice": with_port("{name: a, port: 80}, {name: b, port: 80, protocol: TCP}"),
    "a node port of a ClusterIP": with_port("{port: 80, nodePort: 30080}"),
    "an affinity nobody knows": service(PORT + ", sessionAffinity: clientIP}"),
    "a timeout without affinity": service(PORT + ", sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}}"),
    "a timeout of more than a day": service(
        PORT + ", sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}}"
    ),
    "a cluster IP that is none": service(PORT + ", clusterIP: 10.96.0}"),
    "a cluster IP with leading zeros": service(PORT + ", clusterIP: 10.96.0.010}"),
    "a cluster IP of the wrong family": service(PORT + ", clusterIP: 10.96.0.10, ipFamilies: [IPv6]}"),
    "cluster IPs that disagree": service(PORT + ", clusterIP: 10.96.0.10, clusterIPs: [10.96.0.11]}"),
    "two cluster IPs of one family": service(PORT + ", clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, 10.96.0.11]}"),
    "a headless load balancer": service(PORT + ", clusterIP: None, type: LoadBalancer}"),
    "a type nobody knows": service(PORT + ", type: Loadbalancer}"),
    "an external name that is missing": service("{type: ExternalName}"),
    "a family twice": service(PORT + ", ipFamilies: [IPv4, IPv4], ipFamilyPolicy: PreferDualStack}"),
    "a traffic policy nobody asked for": service(PORT + ", externalTrafficPolicy: Local}"),
    "source ranges without load balancer": service(PORT + ", loadBalancerSourceRanges: [203.0.113.0/24]}"),
    # --- EndpointSlice and Endpoints
    "no address type": endpoint_slice("endpoints: []"),
    "an address type nobody knows": endpoint_slice("addressType: ipv4"),
    "an address that is none": with_address("backend1"),
    "an address that is empty": with_address(""),
    "an address with a port": with_address("203.0.113.1:80"),
    "a loopback address": with_address("127.0.0.1"),
    "an IPv6 loopback address": with_address("::1", "IPv6"),
    "a link-local address": with_address("169.254.1.1"),
    "an IPv6 link-local address": with_address("fe80::1", "IPv6"),
    "a link-local multicast address": with_address("224.0.0.1"),
    "an IPv6 multicast address": with_address("ff02::1", "IPv6"),
    "the unspecified address": with_address("0.0.0.0"),
    "the broadcast address": with_address("255.255.255.255"),
    "a metadata address": with_address("169.254.169.254"),
    "a metadata address behind NAT64": with_address("64:ff9b::a9fe:a9fe", "IPv6"),
    "an IPv4-mapped address": with_address("::ffff:203.0.113.1", "IPv6"),
    "an address with leading zeros": with_address("010.0.0.1"),
    "an address with a zone": with_address("fe80::1%eth0", "IPv6"),
    "an address of the other family": with_address("2001:db8::1"),
    "a name in quotes of the wrong kind": with_address("localhost", "FQDN"),
    "an endpoint without address": endpoint_slice("addressType: IPv4, endpoints: [{hostname: a}]"),
    "a condition in words": endpoint_slice(
        'addressType: IPv4, endpoints: [{addresses: [203.0.113.1], conditions: {ready: "no"}}]'
    ),
    "a hostname with dots": endpoint_slice(
        "addressType: IPv4, endpoints: [{addresses: [203.0.113.1], hostname: a.b}]"
    ),
    "more nodes in hints than eight": with_hints(f"forNodes: [{', '.join(f'{{name: n{n}}}' for n in range(9))}]"),
    "a node twice in hints": with_hints("forNodes: [{name: n1}, {name: n1}]"),
    "a zone in hints that no node can have": with_hints("forZones: [{name: eu/1a}]"),
    "a slice port out of range": endpoint_slice("addressType: IPv4, ports: [{port: 65536}]"),
    "two slice ports without name": endpoint_slice("addressType: IPv4, ports: [{port: 80}, {port: 81}]"),
    "an unknown field of a slice": endpoint_slice("addressType: IPv4, subsets: []"),
    "a subset without addresses": endpoints("{ports: [{port: 80}]}"),
    "a loopback address in Endpoints": endpoints("{addresses: [{ip: 127.1.2.3}], ports: [{port: 80}]}"),
    "an Endpoints port out of range": endpoints("{addresses: [{ip: 203.0.113.1}], ports: [{port: 70000}]}"),
    "Endpoints without ip": endpoints("{addresses: [{hostname: a}]}"),
    # --- Workloads
    "a Deployment without selector": deployment("{template: {spec: {containers: [{name: a, image: b}]}}}"),
    "a selector that misses the template": deployment(
        "{selector: {matchLabels: {app: web}}, "
        "template: {metadata: {labels: {app: other}}, spec: {containers: [{name: a, image: b}]}}}"
    ),
    "a negative number of replicas": deployment(
        "{replicas: -1, selector: {matchLabels: {app: web}}, "
        "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: b}]}}}"
    ),
    "a misspelt number of replicas": deployment(
        "{replica: 1, selector: {matchLabels: {app: web}}, "
        "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: a, image: b}]}}}"
    ),
    "no containers": deployment(
        "{selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {}}}"
    ),
    "a container without image": with_container("{name: a}"),
    "a variable that is a number": with_container("{name: a, image: b, env: [{name: PORT, value: 9000}]}"),
    "a container port out of range": with_container("{name: a, image: b, ports: [{containerPort: 0}]}"),
    "a container port's long name": with_container(
        "{name: a, image: b, ports: [{containerPort: 80, name: a-much-too-long-name}]}"
    ),
    "a pod range that is none": "{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.0.0}}",
    # --- Several objects
    "one object twice": f"{with_port('{port: 80}')}\n---\n{with_port('{port: 81}')}",
    "an error in each of two documents": "kind: a: b\n---\nhello\n",
    "two errors in one object": service("{ports: [{port: 0}], sessionAffinity: Sticky}"),
    "an item of a list": "{apiVersion: v1, kind: List, items: [5]}",
}


def lines_of(text: str) -> list[str]:
    Path("bad.yml").write_text(text)
    return [str(error) for error in read(["bad.yml"])[1]]


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def expected() -> dict[str, list[str]]:
    """What to the lines that it gives: each block of the file is a title and its indented lines."""
    blocks = EXPECTED.read_text().strip().split("\n\n")
    return {title: [line.strip() for line in lines] for title, *lines in (block.split("\n") for block in blocks)}


@pytest.mark.parametrize("what", TEXTS)
def test_bad_input_gives_these_lines(what: str) -> None:
    assert lines_of(TEXTS[what]) == expected()[what]


def test_no_expectation_is_left_over() -> None:
    assert set(expected()) == set(TEXTS)


@pytest.mark.parametrize("what", TEXTS)
def test_every_error_is_one_line_that_says_what_to_do(what: str) -> None:
    lines = lines_of(TEXTS[what])
    assert lines
    for line in lines:
        assert line.isprintable()
        assert line.startswith("bad.yml: ")
        assert ";" in line
