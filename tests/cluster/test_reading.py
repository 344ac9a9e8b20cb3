"""Pages of lists, and objects of events."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from moorage.api.core_v1 import Node, Pod, Secret, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService, ExternalServicePort, ExternalServiceSpec
from moorage.cluster.events import read_event
from moorage.cluster.reading import Unreadable, Whole

READING = Whole(Service)


def test_a_page_has_objects_and_says_how_the_list_goes_on() -> None:
    page = READING.page(
        b'{"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [{"metadata": {"name": "a"}}]}'
    )
    assert [each.metadata.name for each in page.items] == ["a"]
    assert (page.resource_version, page.more) == ("7", "x")


def test_a_list_without_items_is_empty() -> None:
    assert READING.page(b'{"metadata": {}, "items": null}').items == []


def test_an_object_is_read_whole() -> None:
    found = READING.one(b'{"metadata": {"name": "a", "labels": {"b": "c"}}}')
    assert found == Service(metadata=ObjectMeta(name="a", labels={"b": "c"}))


def test_what_is_none_is_said() -> None:
    with pytest.raises(msgspec.DecodeError):
        READING.page(b"[]")


BAD = b'{"metadata": {"name": "b", "uid": "u", "resourceVersion": "7", "generation": 2}, "spec": {"ports": "http"}}'


def test_one_object_of_another_schema_leaves_the_others_of_its_page() -> None:
    page = READING.page(
        b'{"metadata": {"resourceVersion": "7", "continue": "x"}, "items": [{"metadata": {"name": "a"}}, %b]}' % BAD
    )
    assert [each.metadata.name for each in page.items] == ["a"]
    assert (page.resource_version, page.more) == ("7", "x")
    [bad] = page.unreadable
    assert bad.metadata == ObjectMeta(name="b", uid="u", resource_version="7", generation=2)
    assert bad.why == "Expected `array | null`, got `str` - at `$.spec.ports`"


def test_of_an_event_it_is_said_which_object_cannot_be_read_and_whether_it_is_gone() -> None:
    bad = READING.one(BAD)
    assert isinstance(bad, Unreadable)
    assert read_event(b'{"type": "MODIFIED", "object": %b}' % BAD, READING.one) == bad
    assert read_event(b'{"type": "DELETED", "object": %b}' % BAD, READING.one) == replace(bad, deleted=True)


def test_what_does_not_even_say_which_object_it_is_is_none() -> None:
    with pytest.raises(msgspec.DecodeError):
        READING.one(b'{"metadata": {"name": 7}}')


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
KINDS: tuple[type[Any], ...] = (Service, EndpointSlice, ExternalService, Secret, Node, Pod)


@st.composite
def spoilt(draw: st.DrawFn, kind: type[Any]) -> dict[str, Any]:
    """An object of a name, of which any field that is read may be anything."""
    made: dict[str, Any] = {"metadata": {"name": "bad"}}
    fields = draw(st.lists(st.sampled_from(paths(kind)), max_size=4))
    for *outer, last in fields:
        inside = made
        for name in outer:
            inside = inside.setdefault(name, {})
            if not isinstance(inside, dict):
                break
        else:
            if (outer, last) != (["metadata"], "name"):
                inside[last] = draw(anything)
    return made


def paths(kind: type[Any], *before: str) -> list[tuple[str, ...]]:
    """Of all fields of a struct, and of the structs in it."""
    found = []
    for field in msgspec.structs.fields(kind):
        path = (*before, field.encode_name)
        found.append(path)
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            found += paths(field.type, *path)
    return found


@given(st.sampled_from(KINDS).flatmap(lambda kind: st.tuples(st.just(kind), st.lists(spoilt(kind), max_size=3))))
def test_good_objects_are_read_whatever_is_between_them(case: tuple[type[Any], list[dict[str, Any]]]) -> None:
    kind, hostile = case
    good = json.loads(msgspec.json.encode(GOOD[kind]))
    items = [good, *itertools.chain.from_iterable((each, good) for each in hostile)]
    page = Whole(kind).page(json.dumps({"metadata": {"resourceVersion": "7"}, "items": items}).encode())
    assert sum(each == GOOD[kind] for each in page.items) >= len(hostile) + 1
    assert len(page.items) + len(page.unreadable) == len(items)


META = ObjectMeta(name="good", namespace="default", uid="1", resource_version="7")
GOOD: dict[type[Any], Any] = {
    Service: Service(metadata=META),
    EndpointSlice: EndpointSlice(metadata=META, address_type="IPv4"),
    ExternalService: ExternalService(metadata=META, spec=ExternalServiceSpec(ports=[ExternalServicePort(port=80)])),
    Secret: Secret(metadata=META, data={"a": "Yg=="}),
    Node: Node(metadata=META),
    Pod: Pod(metadata=META),
}
