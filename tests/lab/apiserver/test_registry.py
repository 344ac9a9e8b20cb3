"""Whatever a client sends, the registry answers with an object or a Status, never with a crash."""

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moorage.api.kinds import KINDS, Kind
from moorage_lab.apiserver import deletion
from moorage_lab.apiserver.addresses import ClusterIPs
from moorage_lab.apiserver.patches import merge_patch
from moorage_lab.apiserver.registry import Options, Registry
from moorage_lab.apiserver.schema import rules_of
from moorage_lab.apiserver.status import StatusError
from moorage_lab.apiserver.store import Store
from moorage_lab.apiserver.strategic import strategic_merge
from tests.support.apiserver import kind

SCALARS = st.none() | st.booleans() | st.integers(-2, 70000)
WORDS = st.sampled_from(["", "TCP", "None", "10.96.0.1", "a", "x/y"])
JUNK = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["name", "port", "a"]), inner),
    max_leaves=4,
)
_FIELDS = {
    "metadata": "labels finalizers ownerReferences managedFields annotations resourceVersion uid",
    "spec": "ports type clusterIP clusterIPs ipFamilies ipFamilyPolicy selector strategy sessionAffinity "
    "sessionAffinityConfig template containers replicas taints externalIPs cidrs holderIdentity endpoints "
    "healthCheck drain group client endpoint proxy leaseDurationSeconds",
    "status": "phase conditions loadBalancer replicas endpoints",
}


def part(name: str) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(_FIELDS[name].split()), JUNK, max_size=3) | JUNK


BODIES = st.fixed_dictionaries(
    {},
    optional={
        **{name: part(name) for name in _FIELDS},
        "ports": JUNK,
        "endpoints": JUNK,
        "subsets": JUNK,
        "addressType": JUNK,
        "involvedObject": JUNK,
        "data": JUNK,
        "stringData": JUNK,
        "immutable": JUNK,
    },
)


def registry() -> Registry:
    return Registry(Store(), ClusterIPs(["10.96.0.0/12"]), KINDS, names=random.Random(1))


def start(kind: Kind) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    workload = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    specs: dict[str, Any] = {
        "Service": {"ports": [{"port": 80}]},
        "Pod": template["spec"],
        "Deployment": workload,
        "ReplicaSet": workload,
        "StatefulSet": workload,
        "ServiceCIDR": {"cidrs": ["198.18.0.0/24"]},
        "ExternalService": {"ports": [{"port": 80}]},
        "Mooring": {"group": "g", "client": {"kind": "Pod", "name": "p"}, "endpoint": "e"},
    }
    body: dict[str, Any] = {"metadata": {"name": "x"}}
    if kind.kind in specs:
        body["spec"] = specs[kind.kind]
    if kind.kind == "EndpointSlice":
        body |= {"addressType": "IPv4", "endpoints": []}
    if kind.kind == "Event":
        body["involvedObject"] = {"namespace": "default"}
    return body


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
@given(body=BODIES, strict=st.booleans())
@settings(max_examples=30)
def test_junk_is_stored_or_refused(kind: Kind, body: dict[str, Any], strict: bool) -> None:
    one = registry()
    namespace = "default" if kind.namespaced else ""
    options = Options("m", strict=strict)
    named = {**body, "metadata": {**m, "name": "y"} if isinstance(m := body.get("metadata"), dict) else m or {}}
    with contextlib.suppress(StatusError):
        one.create(kind, namespace, named, options)
    one.create(kind, namespace, start(kind), options)
    for subresource in ("", *kind.subresources):
        with contextlib.suppress(StatusError):
            one.patch(kind, namespace, "x", subresource, lambda live: merge_patch(live, body), options)
        with contextlib.suppress(StatusError):
            one.patch(
                kind, namespace, "x", subresource, lambda live: strategic_merge(rules_of(kind), live, body), options
            )
        with contextlib.suppress(StatusError):
            one.apply(kind, namespace, "x", subresource, body, options._replace(force=True))
    with contextlib.suppress(StatusError):
        deletion.delete(one.writer, kind, one.live(kind, namespace, "x"), deletion.delete_options(body, {}))


@given(st.lists(st.sampled_from(["ClientIP", "None", None]), min_size=1, max_size=6))
def test_what_is_applied_last_decides_whatever_was_applied_before(affinities: list[str | None]) -> None:
    one = registry()
    for affinity in affinities:
        spec: dict[str, Any] = {"ports": [{"port": 80}]}
        if affinity is not None:
            spec["sessionAffinity"] = affinity
        written = one.apply(kind("Service"), "default", "s", "", {"spec": spec}, Options("kubectl")).obj
    assert written["spec"]["sessionAffinity"] == (affinities[-1] or "None")
    assert ("sessionAffinityConfig" in written["spec"]) is (affinities[-1] == "ClientIP")


def test_the_cluster_tells_its_service_range() -> None:
    assert registry().live(kind("ServiceCIDR"), "", "kubernetes")["spec"] == {"cidrs": ["10.96.0.0/12"]}
