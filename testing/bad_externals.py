"""ExternalServices and Moorings that must be refused: the corpus bad_externals.yml, and damaged ones."""

import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).with_name("bad_externals.yml")


class Bad(NamedTuple):
    what: str
    object: dict[str, Any]
    server: list[str]
    """What the API server says of it: a field each, with our words where the rule is ours."""
    moorage: list[str]
    """What `api.validation` says."""


def corpus(namespace: str = "frontend") -> list[Bad]:
    """All of them, as objects of a namespace."""
    return [_bad(case, namespace) for case in yaml.safe_load(FILE.read_text())]


def _bad(case: dict[str, Any], namespace: str) -> Bad:
    obj = {
        "apiVersion": "moorage.dev/v1alpha1",
        "kind": case.get("kind", "ExternalService"),
        "metadata": {"name": case.get("name", "backend"), "namespace": namespace},
        **({"spec": case["spec"]} if "spec" in case else {}),
    }
    return Bad(case["what"], obj, case["server"], case["moorage"])


def damaged(obj: dict[str, Any], random_: random.Random) -> dict[str, Any]:
    """`obj` with one or two parts of its spec removed, doubled or replaced; it may still be right."""
    result = copy.deepcopy(obj)
    for _ in range(random_.randint(1, 2)):
        places = _places(result["spec"])
        if not places:
            break
        container, key = random_.choice(places)
        chance = random_.random()
        if chance < 0.15:
            del container[key]
        elif chance < 0.25 and isinstance(container, list):
            container.append(copy.deepcopy(container[key]))
        else:
            container[key] = copy.deepcopy(random_.choice(_VALUES))
    return result


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key inside `value`, at any depth."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


_VALUES: list[Any] = [
    *("", "a", "A", "1a", "a.b", "a-", "-a", "a_b", "a" * 63, "a" * 64, "x" * 254, "*", "\n", "a\n", "\u00e9"),
    *("203.0.113.1", "203.0.113.01", "203.0.113.1:80", "::", "2001:DB8:0::1", "fe80::1%a", "::ffff:203.0.113.1"),
    *(
        "[2001:db8::1]:80",
        "[2001:db8::1]",
        "a:80",
        "a:123456",
        "/",
        "/ ",
        "//x",
        "a/b",
        "a.b/c",
        "/c",
        "_a._b.c",
        "a..b",
    ),
    *(
        "200",
        "99",
        "600",
        "200-100",
        "200-200",
        "100-599",
        "200-",
        "TCP",
        "UDP",
        "SRV",
        "AAAA",
        "In",
        "Exists",
        "Pod",
        "Label",
        "Zone",
    ),
    *("None", "ClientIP", "Mooring", "moorage", "IPv4", "IPv6", "SingleStack", "PreferSameZone"),
    *("2027-01-01T00:00:00Z", "2027-01-01T24:00:00Z", "2027-01-01T00:00:00", "2027-02-30T00:00:00+01:00"),
    *(None, True, False, -1, 0, 1, 2, 3, 10, 128, 256, 257, 300, 301, 3600, 3601, 65535, 65536, 86401, 2**31, 1.5),
    *([], {}, [{}], [None], ["200"], ["a", "a"], ["IPv4", "IPv4"], {"tcp": {}, "http": {}}, {"clientIP": {}}),
    *(
        [{"port": 80}, {"port": 80, "protocol": "UDP"}],
        [{"port": 53, "protocol": "UDP"}],
        {"mooring": {}},
        {"mooring": {"client": "Zone"}},
    ),
    *([{"port": 80, "name": "a"}, {"port": 81, "name": "b"}], [{"address": "203.0.113.1"}] * 2),
]
"""Right at some place, wrong at most."""

FULL: list[dict[str, Any]] = yaml.safe_load(
    """
- apiVersion: moorage.dev/v1alpha1
  kind: ExternalService
  metadata: {name: full}
  spec:
    ports: [{name: http, protocol: TCP, port: 9000, targetPort: 80, appProtocol: kubernetes.io/h2c}]
    sessionAffinity: Mooring
    sessionAffinityConfig:
      clientIP: {timeoutSeconds: 86400}
      mooring:
        client: Label
        label: example.com/tenant
        podSelector: {matchLabels: {app: frontend}, matchExpressions: [{key: tier, operator: Exists}]}
        onRecovery: Return
        whilePending: Hash
    proxy: moorage
    group: backend
    ipFamilyPolicy: PreferDualStack
    ipFamilies: [IPv4, IPv6]
    suspend: true
    endpoints:
    - addresses:
      - {name: backend1, address: 203.0.113.11, zone: eu-1a}
      - {address: "2001:db8::12", port: 8080, weight: 2}
    - dns: {name: _db._tcp.example.com., type: SRV}
    - cluster:
        kubeconfigSecretRef: {name: cluster-a, key: kubeconfig}
        namespace: backend
        selector: {matchLabels: {app: backend}, matchExpressions: [{key: tier, operator: In, values: [x]}]}
        zone: eu-1b
    healthCheck:
      http:
        path: /healthz?full=1
        host: backend.example.com:8443
        expectedStatuses: ["200-399", "418"]
        tls: {serverName: backend.example.com, caSecretRef: {name: ca, key: ca.crt}}
      port: 8443
      intervalSeconds: 5
      timeoutSeconds: 5
      fall: 1
      rise: 1
      panicThresholdPercent: 100
    drain: [{endpoint: backend1, before: "2027-01-01T00:00:00Z"}]
- apiVersion: moorage.dev/v1alpha1
  kind: ExternalService
  metadata: {name: plain}
  spec:
    ports: [{port: 80}]
    sessionAffinity: ClientIP
    sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}
    trafficDistribution: PreferSameZone
    endpoints: [{addresses: [{address: 203.0.113.11}]}, {dns: {name: a}}]
    healthCheck: {tcp: {}}
- apiVersion: moorage.dev/v1alpha1
  kind: ExternalService
  metadata: {name: nodes}
  spec:
    ports: [{port: 80}]
    sessionAffinity: Mooring
    sessionAffinityConfig: {mooring: {client: Node}}
- apiVersion: moorage.dev/v1alpha1
  kind: Mooring
  metadata: {name: backend.frontend-0}
  spec: {group: backend, client: {kind: Pod, name: frontend-0}, endpoint: backend1}
"""
)
"""Right objects with every field."""
