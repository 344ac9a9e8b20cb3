import copy
import io
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.kinds import KINDS, Kind
from moorage.api.manifest import load
from moorage.api.validation import FieldError, validate, validate_update, without_nulls
from testing.bad_externals import FULL

DEMO = Path(__file__).parents[2] / "deploy" / "demo"
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "backend", "namespace": "frontend"},
    "spec": {"ports": [{"port": 80}]},
}
EXAMPLES = """
apiVersion: v1
kind: Service
metadata:
  name: backend
  namespace: frontend
  labels: {app: web, example.com/tier: ""}
  annotations: {Example.com/Note: "any text, ü"}
  finalizers: [example.com/f]
  ownerReferences: [{apiVersion: v1, kind: Pod, name: p, uid: u, controller: true}]
spec:
  type: LoadBalancer
  selector: {app: web}
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd00:10:96::a"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: PreferDualStack
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}
  externalTrafficPolicy: Local
  healthCheckNodePort: 30001
  loadBalancerSourceRanges: [203.0.113.0/24]
  allocateLoadBalancerNodePorts: true
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30080, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 53, protocol: UDP, targetPort: dns}
  - {name: dns-tcp, port: 53, protocol: TCP, targetPort: dns}
status: {loadBalancer: {ingress: [{ip: 203.0.113.1, ipMode: VIP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: h, namespace: a}, spec: {clusterIP: None}}
---
{apiVersion: v1, kind: Service, metadata: {name: e, namespace: a},
 spec: {type: ExternalName, externalName: db.example.com.}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend.1, namespace: frontend, labels: {kubernetes.io/service-name: backend}}
addressType: IPv6
endpoints:
- addresses: ["2001:DB8::1"]
  conditions: {ready: true, serving: null}
  hostname: backend1
  nodeName: node-1.example.com
  zone: a
  targetRef: {kind: Pod, name: p, namespace: frontend, uid: u}
ports: [{name: "", port: 80, protocol: TCP}, {name: any}]
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: f, namespace: a}, addressType: FQDN,
 endpoints: [{addresses: [db.example.com]}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: backend, namespace: a}
subsets: [{addresses: [{ip: 203.0.113.1}], notReadyAddresses: [{ip: 203.0.113.2, hostname: b}], ports: [{port: 80}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: a}
spec:
  replicas: 0
  strategy: {type: Recreate}
  selector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [x]}]}
  template:
    metadata: {labels: {app: web, more: ""}}
    spec:
      restartPolicy: Always
      dnsPolicy: ClusterFirst
      containers:
      - name: web
        image: web:1
        resources: {limits: {cpu: 1}}
        env: [{name: A, value: ""}, {name: B, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        ports: [{containerPort: 8080, name: http}]
---
{apiVersion: v1, kind: Pod, metadata: {generateName: web-, name: web-1, namespace: a},
 spec: {restartPolicy: Never, containers: [{name: a, image: b}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: node-1.example.com},
 spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.0.0/24, "fd00:10:244::/64"]}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: a}, spec: {finalizers: [kubernetes]}, status: {phase: Active}}
---
{apiVersion: v1, kind: Event, metadata: {name: a.1, namespace: a}, type: Normal, count: 1}
---
{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: w, namespace: a},
 spec: {selector: {matchLabels: {a: b}},
        template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}
---
{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: db, namespace: a},
 spec: {replicas: 3, ordinals: {start: 1}, serviceName: db, podManagementPolicy: Parallel,
        updateStrategy: {type: OnDelete}, volumeClaimTemplates: [], selector: {matchLabels: {a: b}},
        template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}
---
{apiVersion: batch/v1, kind: Job, metadata: {name: nightly-28, namespace: a}, spec: {parallelism: 1}}
---
{apiVersion: v1, kind: Secret, metadata: {name: ca.pem, namespace: a}, type: Opaque,
 data: {ca.crt: aGFybG91cgo=, empty: ""}, stringData: {a_b: any text}, immutable: false}
---
{apiVersion: coordination.k8s.io/v1, kind: Lease, metadata: {name: moorage, namespace: a},
 spec: {holderIdentity: a, leaseDurationSeconds: 15, acquireTime: "2026-01-01T00:00:00.000000Z", leaseTransitions: 0}}
---
{apiVersion: networking.k8s.io/v1, kind: ServiceCIDR, metadata: {name: kubernetes},
 spec: {cidrs: [10.96.0.0/12, "fd00:10:96::/112"]}}
"""

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["", "None", "::1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@cache
def examples() -> list[dict[str, Any]]:
    """Not to be changed."""
    return [manifest.object for manifest in load([io.StringIO(EXAMPLES)])] + FULL


def converts(obj: dict[str, Any], kind: Kind) -> bool:
    try:
        msgspec.convert(without_nulls(obj), kind.type)
    except msgspec.ValidationError:
        return False
    return True


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key inside `value`, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def kind_named(obj: dict[str, Any]) -> Kind:
    return next(kind for kind in KINDS if kind.kind == obj["kind"])


def test_there_is_a_right_object_of_every_kind_and_validate_accepts_all() -> None:
    assert {obj["kind"] for obj in examples()} == {kind.kind for kind in KINDS}
    for obj in examples():
        assert validate(obj, strict=True) == []
        assert converts(obj, kind_named(obj))


def test_the_demos_objects_are_right() -> None:
    for file in DEMO.iterdir():
        for manifest in load([file]):
            assert validate(manifest.object, strict=True) == []


@settings(max_examples=400)
@given(st.data())
def test_no_value_anywhere_makes_validate_raise_and_what_it_accepts_can_be_converted(data: st.DataObject) -> None:
    obj = copy.deepcopy(data.draw(st.sampled_from(examples())))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(obj)))
        container[key] = data.draw(JSON)
    errors = validate(obj, strict=True)
    validate_update(obj, obj)
    validate_update(obj, SERVICE)
    for error in errors:
        assert str(error).isprintable()
    if not errors:
        assert converts(obj, kind_named(obj))


@given(
    st.dictionaries(st.text(), JSON)
    | st.fixed_dictionaries({"apiVersion": st.just("v1"), "kind": JSON, "spec": JSON})
)
def test_no_mapping_makes_validate_raise(obj: dict[str, Any]) -> None:
    assert validate(obj)


def changed(path: str, value: Any, obj: dict[str, Any] = SERVICE) -> dict[str, Any]:
    obj = copy.deepcopy(obj)
    target: Any = obj
    *parents, last = path.split(".")
    for key in parents:
        target = target.setdefault(key, {}) if isinstance(target, dict) else target[int(key)]
    target[last] = value
    return obj


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("metadata.name", "", "FieldValueRequired"),
        ("metadata.name", "Backend", "FieldValueInvalid"),
        ("metadata.annotations", {"a": "x" * 262145}, "FieldValueTooLong"),
        ("spec.ports.0.port", 0, "FieldValueInvalid"),
        ("spec.ports.0.port", "80", "FieldValueTypeInvalid"),
        ("spec.ports.0.port", None, "FieldValueRequired"),
        ("spec.ports.0.protocol", "tcp", "FieldValueNotSupported"),
        ("spec.ports.0.nodePort", 30000, "FieldValueForbidden"),
        ("spec.ports", [{"port": 1, "name": "a"}, {"port": 1, "name": "b"}], "FieldValueDuplicate"),
        ("spec.clusterIPs", ["10.0.0.1", "::2", "10.0.0.3"], "FieldValueTooMany"),
        ("spec.clusterIP", "127.0.0.1", "FieldValueInvalid"),
        ("spec.externalIPs", ["169.254.169.254"], "FieldValueInvalid"),
    ],
)
def test_errors_carry_upstreams_words(path: str, value: Any, kind: str) -> None:
    assert kind in {error.kind for error in validate(changed(path, value))}


def example(kind: str) -> dict[str, Any]:
    return next(copy.deepcopy(obj) for obj in examples() if obj["kind"] == kind)


INT32 = 2**31 - 1
BOUNDS = [
    ("Service", "spec.ports.0.port", 1, 65535),
    ("Service", "spec.ports.0.targetPort", 1, 65535),
    ("Service", "spec.sessionAffinityConfig.clientIP.timeoutSeconds", 1, 86400),
    ("EndpointSlice", "ports.0.port", 1, 65535),
    ("Deployment", "spec.replicas", 0, INT32),
    ("Deployment", "spec.minReadySeconds", 0, INT32),
    ("Deployment", "spec.template.spec.terminationGracePeriodSeconds", 0, 2**63 - 1),
    ("Deployment", "spec.template.spec.containers.0.ports.0.containerPort", 1, 65535),
    ("Pod", "spec.terminationGracePeriodSeconds", 0, 2**63 - 1),
    ("ReplicaSet", "spec.replicas", 0, INT32),
    ("StatefulSet", "spec.replicas", 0, INT32),
    ("StatefulSet", "spec.ordinals.start", 0, INT32),
]
"""Kind, field, and the least and greatest number in it."""


@pytest.mark.parametrize(("kind", "path", "low", "high"), BOUNDS)
def test_a_number_is_right_at_its_bounds_and_wrong_beyond_them(kind: str, path: str, low: int, high: int) -> None:
    found = {
        number: [error.kind for error in validate(changed(path, number, example(kind)))]
        for number in (low - 1, low, high, high + 1)
    }
    wrong = ["FieldValueInvalid"]
    assert found == {low - 1: wrong, low: [], high: [], high + 1: wrong}


def test_annotations_take_so_many_bytes_with_their_names_and_no_more() -> None:
    value = "ü" * ((256 * 1024 - len("ab")) // 2)
    assert validate(changed("metadata.annotations", {"ab": value})) == []
    [error] = validate(changed("metadata.annotations", {"ab": value, "c": ""}))
    assert (error.path, error.kind) == ("metadata.annotations", "FieldValueTooLong")


def test_unknown_fields_are_reported_only_where_asked_for() -> None:
    obj = changed("spec.sessionAfinity", "ClientIP")
    assert validate(obj) == []
    message = "unknown field; did you mean sessionAffinity?"
    assert validate(obj, strict=True) == [FieldError("spec.sessionAfinity", "FieldUnknown", message)]


def test_a_mistyped_field_is_reported_once_and_nothing_below_it() -> None:
    assert [error.path for error in validate(changed("spec", "x"))] == ["spec"]


def test_null_is_absent() -> None:
    assert validate(changed("spec.ports.0.protocol", None)) == []
    assert without_nulls({"a": None, "b": [{"c": None}], "d": {"e": None}}) == {"b": [{}], "d": {}}


def test_a_slice_holds_at_most_a_thousand_endpoints_and_a_hundred_ports() -> None:
    obj: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["203.0.113.1"]}] * 1000,
        "ports": [{"name": f"p{number}", "port": 80} for number in range(100)],
    }
    assert validate(obj) == []
    obj["endpoints"] *= 2
    obj["ports"] *= 2
    assert [(error.path, error.kind) for error in validate(obj)] == [
        ("endpoints", "FieldValueTooMany"),
        ("ports", "FieldValueTooMany"),
    ]


@pytest.mark.parametrize(
    ("controllers", "right"),
    [((True, False), True), ((False, False), True), ((True, None), True), ((True, True), False)],
)
def test_an_object_has_one_controller_at_most(controllers: tuple[bool | None, ...], right: bool) -> None:
    owners = [
        {"apiVersion": "v1", "kind": "Pod", "name": f"p{number}", "uid": f"u{number}", "controller": controller}
        for number, controller in enumerate(controllers)
    ]
    errors = validate(changed("metadata.ownerReferences", owners))
    assert [error.path.startswith("metadata.ownerReferences") for error in errors] == [True] * (not right)


@pytest.mark.parametrize(("seconds", "right"), [(0, True), (-1, False)])
def test_a_pod_may_be_given_no_time_to_end(seconds: int, right: bool) -> None:
    spec = {"containers": [{"name": "a", "image": "b"}], "terminationGracePeriodSeconds": seconds}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}, "spec": spec}
    assert [error.path for error in validate(pod)] == ["spec.terminationGracePeriodSeconds"] * (not right)


def test_an_endpoint_of_a_slice_has_at_most_a_hundred_addresses() -> None:
    obj: dict[str, Any] = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "a"},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [f"203.0.113.{number}" for number in range(100)]}],
    }
    assert validate(obj) == []
    obj["endpoints"][0]["addresses"].append("203.0.113.100")
    assert [(error.path, error.kind) for error in validate(obj)] == [("endpoints[0].addresses", "FieldValueTooMany")]


def test_an_update_may_not_change_what_is_immutable() -> None:
    with_ip = changed("spec.clusterIP", "10.96.0.1")
    assert validate_update(with_ip, with_ip) == []
    assert validate_update(with_ip, SERVICE) == []
    assert [error.path for error in validate_update(changed("spec.clusterIP", "10.96.0.2"), with_ip)] == [
        "spec.clusterIP"
    ]
    assert [error.kind for error in validate_update(SERVICE, with_ip)] == ["FieldValueRequired"]
    assert validate_update(changed("spec.type", "ExternalName"), with_ip) == []
    old = {"kind": "EndpointSlice", "addressType": "IPv4"}
    assert [error.path for error in validate_update({**old, "addressType": "IPv6"}, old)] == ["addressType"]
    deployment = {"kind": "Deployment", "spec": {"selector": {"matchLabels": {"a": "b"}}}}
    assert [error.path for error in validate_update({"kind": "Deployment"}, deployment)] == ["spec.selector"]
    database = {
        "kind": "StatefulSet",
        "spec": {"serviceName": "db", "podManagementPolicy": "Parallel", "replicas": 1},
    }
    assert validate_update({**database, "spec": {**database["spec"], "replicas": 2}}, database) == []  # type: ignore[dict-item]
    assert [error.path for error in validate_update({"kind": "StatefulSet"}, database)] == [
        "spec.serviceName",
        "spec.podManagementPolicy",
    ]


@pytest.mark.parametrize("path", ["spec.podManagementPolicy", "spec.updateStrategy.type"])
def test_a_stateful_set_has_one_of_two_ways_to_make_and_to_update_pods(path: str) -> None:
    [error] = validate(changed(path, "Any", example("StatefulSet")))
    assert (error.path, error.kind) == (path, "FieldValueNotSupported")
