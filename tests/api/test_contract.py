import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.contract import (
    AFFINITY_ANNOTATION,
    CLIENT_ANNOTATION,
    GROUP_ANNOTATION,
    LABEL_ANNOTATION,
    MAX_WEIGHT,
    POD_SELECTOR_ANNOTATION,
    PROXY,
    PROXY_LABEL,
    WEIGHTS_ANNOTATION,
    WHILE_PENDING_ANNOTATION,
    Marks,
    MooredBy,
    ServiceContract,
    SliceContract,
    decode_service,
    decode_slice,
    encode_mooring,
    encode_service,
    encode_slice,
    moorings_of,
    slim,
)
from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from moorage.api.meta import LabelSelector, LabelSelectorRequirement, ObjectMeta

META = ObjectMeta(name="backend", namespace="frontend")

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
proxies = st.none() | st.just(PROXY) | st.text(max_size=8)
keys = st.sampled_from(["tenant", "example.com/tenant", "example.com/Tenant_1", "a" * 63])
selectors = st.builds(
    LabelSelector,
    match_labels=st.none() | st.dictionaries(keys, st.text(max_size=8), max_size=3),
    match_expressions=st.none()
    | st.lists(
        st.builds(
            LabelSelectorRequirement,
            key=keys,
            operator=st.sampled_from(["In", "Exists", "Near"]),
            values=st.none() | st.lists(st.text(max_size=8), max_size=3),
        ),
        max_size=3,
    ),
)
moored = (
    st.sampled_from(["Node", "Zone", "Namespace"]).map(lambda kind: MooredBy("databases", kind))
    | st.builds(MooredBy, labels, st.sampled_from(["Pod", "Workload"]), st.just(""), selectors, st.booleans())
    | st.builds(MooredBy, labels, st.just("Label"), keys, selectors, st.booleans())
)
services = st.builds(ServiceContract, proxies, st.none() | moored)
weights = st.dictionaries(st.text(max_size=8), st.integers(1, MAX_WEIGHT), max_size=5)
slices = st.builds(SliceContract, st.none() | labels, proxies, weights)

NAMES = (
    PROXY_LABEL,
    MANAGED_BY_LABEL,
    SERVICE_NAME_LABEL,
    AFFINITY_ANNOTATION,
    GROUP_ANNOTATION,
    CLIENT_ANNOTATION,
    LABEL_ANNOTATION,
    POD_SELECTOR_ANNOTATION,
    WHILE_PENDING_ANNOTATION,
    WEIGHTS_ANNOTATION,
    "example.com/theirs",
)
texts = (
    st.sampled_from(
        ["", "Mooring", "backend", "Pod", "Label", "{}", '{"a": 2}', '{"a": 0}', '{"a": 1e400}', "[" * 9_999]
    )
    | st.text()
)
values = st.none() | st.dictionaries(st.sampled_from(NAMES), texts)
metadata = st.builds(
    lambda labels, annotations: replace(META, labels=labels, annotations=annotations), values, values
)


def patched(meta: ObjectMeta, patch: dict[str, Any]) -> ObjectMeta:
    """As the API server applies a merge patch (RFC 7386)."""

    def merged(field: str, have: dict[str, str] | None) -> dict[str, str]:
        return {key: value for key, value in ((have or {}) | patch.get(field, {})).items() if value is not None}

    return replace(meta, labels=merged("labels", meta.labels), annotations=merged("annotations", meta.annotations))


# --- there and back -----------------------------------------------------------------------------------------------


@given(services)
def test_what_a_service_is_made_with_is_what_agents_read(contract: ServiceContract) -> None:
    assert decode_service(encode_service(contract).on(META)) == (contract, ())


@given(slices)
def test_what_a_slice_is_made_with_is_what_agents_read(contract: SliceContract) -> None:
    assert decode_slice(encode_slice(contract).on(META)) == (contract, ())


@given(metadata, services)
def test_a_patch_makes_of_any_service_what_agents_are_to_read(before: ObjectMeta, contract: ServiceContract) -> None:
    marks = encode_service(contract)
    after = patched(before, marks.patch(before))
    assert decode_service(after) == (contract, ())
    assert marks.patch(after) == {}
    assert (after.labels or {}).get("example.com/theirs") == (before.labels or {}).get("example.com/theirs")


@given(metadata, slices)
def test_a_patch_makes_of_any_slice_what_agents_are_to_read(before: ObjectMeta, contract: SliceContract) -> None:
    marks = encode_slice(contract)
    after = patched(before, marks.patch(before))
    assert decode_slice(after) == (contract, ())
    assert marks.patch(after) == {}


# --- what others write --------------------------------------------------------------------------------------------


@given(metadata)
def test_whatever_there_is_decodes_to_what_can_be_encoded(meta: ObjectMeta) -> None:
    service, slice_ = decode_service(meta), decode_slice(meta)
    assert decode_service(encode_service(service.contract).on(META)) == (service.contract, ())
    assert decode_slice(encode_slice(slice_.contract).on(META)) == (slice_.contract, ())
    for problem in service.problems:
        assert re.match(
            r"Service frontend/backend: metadata\.annotations\[moorage\.dev/(affinity|group|client|pod-selector)\] ",
            problem,
        )
    for problem in slice_.problems:
        assert problem.startswith("EndpointSlice frontend/backend: metadata.annotations[moorage.dev/weights] ")


@given(metadata)
def test_what_is_kept_of_metadata_says_the_same(meta: ObjectMeta) -> None:
    assert decode_service(slim(meta)) == decode_service(meta)
    assert decode_slice(slim(meta)) == decode_slice(meta)
    assert "example.com/theirs" not in (slim(meta).labels or {}) | (slim(meta).annotations or {})


MOORED = {AFFINITY_ANNOTATION: "Mooring", GROUP_ANNOTATION: "databases", CLIENT_ANNOTATION: "Workload"} | {
    POD_SELECTOR_ANNOTATION: '{"matchLabels":{"app":"frontend"}}',
    WHILE_PENDING_ANNOTATION: "Hash",
}
SELECTOR_RULE = (
    "a LabelSelector in JSON, with at most 32 labels, 16 expressions and 32 values of each, such as "
    '{"matchLabels":{"app":"frontend"}}'
)


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ({AFFINITY_ANNOTATION: "Mooring\n"}, '[moorage.dev/affinity] is "Mooring\\n", and must be Mooring'),
        (
            {GROUP_ANNOTATION: "Data Bases"},
            '[moorage.dev/group] is "Data Bases", and must be a DNS label, such as backend',
        ),
        (
            {CLIENT_ANNOTATION: "Host"},
            "[moorage.dev/client] is Host, and must be Pod, Workload, Label, Node, Zone or Namespace",
        ),
        (
            {CLIENT_ANNOTATION: "Label"},
            "[moorage.dev/label] is missing, and must be a label's key, such as example.com/tenant",
        ),
        (
            {CLIENT_ANNOTATION: "Label", LABEL_ANNOTATION: "a/b/c"},
            "[moorage.dev/label] is a/b/c, and must be a label's key, such as example.com/tenant",
        ),
        ({POD_SELECTOR_ANNOTATION: None}, f"[moorage.dev/pod-selector] is missing, and must be {SELECTOR_RULE}"),
        ({POD_SELECTOR_ANNOTATION: "[]"}, f'[moorage.dev/pod-selector] is "[]", and must be {SELECTOR_RULE}'),
        ({WHILE_PENDING_ANNOTATION: "Wait"}, "[moorage.dev/while-pending] is Wait, and must be Hold or Hash"),
        ({WHILE_PENDING_ANNOTATION: None}, "[moorage.dev/while-pending] is missing, and must be Hold or Hash"),
        ({GROUP_ANNOTATION: None}, "[moorage.dev/group] is missing, and must be a DNS label, such as backend"),
    ],
)
def test_a_service_with_half_a_mooring_has_none_and_a_line_says_why(
    annotations: dict[str, str | None], problem: str
) -> None:
    found = {key: value for key, value in (MOORED | annotations).items() if value is not None}
    assert decode_service(replace(META, annotations=found)) == (
        ServiceContract(),
        (f"Service frontend/backend: metadata.annotations{problem}; clients are not moored",),
    )


def one_of(labels: int = 0, expressions: int = 0, values: int = 0) -> LabelSelector:
    """A selector with so many labels, and expressions with so many values."""
    return LabelSelector(
        match_labels={f"l{n}": "" for n in range(labels)},
        match_expressions=[
            LabelSelectorRequirement(key="k", operator="In", values=[str(n) for n in range(values)])
            for _ in range(expressions)
        ],
    )


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        (one_of(32, 16, 32), True),
        (one_of(33), False),
        (one_of(0, 17), False),
        (one_of(0, 1, 33), False),
    ],
)
def test_a_selector_that_would_cost_too_much_is_none(selector: LabelSelector, fits: bool) -> None:
    text = msgspec.json.encode(selector).decode()
    found = decode_service(replace(META, annotations=MOORED | {POD_SELECTOR_ANNOTATION: text}))
    assert (found.contract.moored is not None) is fits


def test_an_old_service_of_pods_that_says_nothing_of_them_is_not_moored() -> None:
    """As an operator before this wrote it. Nodes need nothing more."""
    old = {name: MOORED[name] for name in (AFFINITY_ANNOTATION, GROUP_ANNOTATION, CLIENT_ANNOTATION)}
    assert decode_service(replace(META, annotations=old)).contract.moored is None
    of_nodes = decode_service(replace(META, annotations=old | {CLIENT_ANNOTATION: "Node"}))
    assert of_nodes == (ServiceContract(moored=MooredBy("databases", "Node")), ())


@pytest.mark.parametrize(
    "text", ["", "2", "[]", '{"a": 0}', '{"a": 101}', '{"a": 1.5}', '{"a": "2"}', "\ud800", "[" * 99]
)
def test_weights_that_cannot_be_are_all_one_and_a_line_says_why(text: str) -> None:
    assert decode_slice(replace(META, annotations={WEIGHTS_ANNOTATION: text})) == (
        SliceContract(),
        (
            "EndpointSlice frontend/backend: metadata.annotations[moorage.dev/weights] is not a JSON object of name "
            'to whole number from 1 to 100, such as {"backend1": 2}; all weigh 1',
        ),
    )


# --- what is in clusters already ----------------------------------------------------------------------------------


def test_the_names_and_formats_are_those_that_clusters_have() -> None:
    frontends = LabelSelector(match_labels={"app": "frontend"})
    contract = ServiceContract("moorage", MooredBy("databases", "Workload", "", frontends, True))
    assert encode_service(contract) == Marks(
        {"app.kubernetes.io/managed-by": "moorage", "service.kubernetes.io/service-proxy-name": "moorage"},
        {
            "moorage.dev/affinity": "Mooring",
            "moorage.dev/group": "databases",
            "moorage.dev/client": "Workload",
            "moorage.dev/label": None,
            "moorage.dev/pod-selector": '{"matchLabels":{"app":"frontend"}}',
            "moorage.dev/while-pending": "Hold",
        },
    )
    by_label = encode_service(
        ServiceContract("moorage", MooredBy("db", "Label", "example.com/tenant", LabelSelector()))
    )
    assert by_label.annotations["moorage.dev/label"] == "example.com/tenant"
    assert by_label.annotations["moorage.dev/pod-selector"] == "{}"
    assert by_label.annotations["moorage.dev/while-pending"] == "Hash"
    assert (
        encode_service(ServiceContract(None, MooredBy("db", "Node"))).annotations["moorage.dev/while-pending"] is None
    )
    assert encode_mooring("db", "Node", "n1").labels == {"moorage.dev/group": "db", "moorage.dev/client": "node.n1"}
    assert moorings_of(("Node", "n1"), ("Zone", "eu-1a")) == "moorage.dev/client in (node.n1,zone.eu-1a)"
    assert encode_slice(SliceContract("backend", "moorage", {"b": 3, "a": 2})) == Marks(
        {
            "kubernetes.io/service-name": "backend",
            "endpointslice.kubernetes.io/managed-by": "moorage.dev",
            "service.kubernetes.io/service-proxy-name": "moorage",
        },
        {"moorage.dev/weights": '{"a":2,"b":3}'},
    )


ROOT = Path(__file__).parents[2]
OURS = re.compile(r"moorage\.dev/(?!v1alpha1)|service-proxy-name|app\.kubernetes\.io/managed-by")


def test_no_other_module_knows_a_label_or_annotation() -> None:
    modules = [path for root in ("src", "lab/src") for path in (ROOT / root).rglob("*.py")]
    knowing = {str(path.relative_to(ROOT)) for path in modules if OURS.search(path.read_text())}
    assert knowing == {"src/moorage/api/contract.py"}


def test_tests_and_tools_take_labels_and_annotations_from_the_contract() -> None:
    names = re.compile("|".join(map(re.escape, (PROXY_LABEL, *MOORED, LABEL_ANNOTATION, WEIGHTS_ANNOTATION))))
    modules = [path for root in ("tests", "testing", "e2e", "bench") for path in (ROOT / root).rglob("*.py")]
    knowing = {path for path in modules if names.search(path.read_text())}
    assert knowing == {Path(__file__)}
