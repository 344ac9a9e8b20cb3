import pytest

from moorage_lab.apiserver.selectors import field_predicate, label_predicate
from moorage_lab.apiserver.status import StatusError
from tests.support.apiserver import kind

POD = kind("Pod")
EVENT = kind("Event")


@pytest.mark.parametrize(
    ("selector", "labels", "matches"),
    [
        ("a=b", {"a": "b"}, True),
        ("a==b", {"a": "c"}, False),
        ("a!=b", {}, True),
        ("a!=b", {"a": "b"}, False),
        ("a in (b, c),d", {"a": "c", "d": ""}, True),
        ("a in (b,c),d", {"a": "c"}, False),
        ("a notin (b)", {"a": "c"}, True),
        ("!a", {}, True),
        ("!a", {"a": ""}, False),
        ("a=", {"a": ""}, True),
        ("kubernetes.io/service-name=x", {"kubernetes.io/service-name": "x"}, True),
    ],
)
def test_label_selectors_match_as_in_kubernetes(selector: str, labels: dict[str, str], matches: bool) -> None:
    predicate = label_predicate(selector)
    assert predicate is not None
    assert predicate({"metadata": {"labels": labels}}) is matches


@pytest.mark.parametrize("selector", ["a in b", "=b", "a b", "a in (b"])
def test_a_malformed_label_selector_is_a_bad_request(selector: str) -> None:
    with pytest.raises(StatusError) as caught:
        label_predicate(selector)
    assert caught.value.code == 400


def test_field_selectors_read_the_fields_of_the_kind() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}}
    for selector, matches in [
        ("spec.nodeName=n,status.phase!=Failed", True),
        ("metadata.name=q", False),
        ("spec.hostNetwork=false", True),
    ]:
        predicate = field_predicate(POD, selector)
        assert predicate is not None
        assert predicate(pod) is matches
    event = field_predicate(EVENT, "involvedObject.kind=Pod,involvedObject.uid=1")
    assert event is not None
    assert event({"involvedObject": {"kind": "Pod", "uid": "1"}})


def test_a_field_that_the_kind_cannot_be_selected_by_is_a_bad_request() -> None:
    with pytest.raises(StatusError, match="field label not supported"):
        field_predicate(POD, "spec.nope=1")
