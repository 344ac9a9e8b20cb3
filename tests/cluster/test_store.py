from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage.api.core_v1 import Service
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.cluster.store import Change, Index, Reverse, Store


def service(name: str, *labels: str) -> Service:
    return Service(metadata=ObjectMeta(name=name, namespace="n", labels=dict.fromkeys(labels, "")))


BY_LABEL = Index[Service, str](lambda obj: obj.metadata.labels or ())
BY_LENGTH = Index[Service, int](lambda obj: [len(obj.metadata.labels or ())])

INDEXES: list[Index[Service, Any]] = [BY_LABEL, BY_LENGTH]

names = st.sampled_from("abcd")
objects = st.builds(lambda name, labels: service(name, *labels), names, st.sets(st.sampled_from("xyz")))
steps = st.lists(objects | names | st.lists(objects, max_size=4), max_size=20)


@given(steps)
def test_indexes_say_what_the_objects_say(steps: list[Service | str | list[Service]]) -> None:
    store = Store(INDEXES)
    expected: dict[str, Service] = {}
    for step in steps:
        match step:
            case Service():
                store.put(step)
                expected[step.metadata.name] = step
            case str():
                assert store.discard(ObjectKey("n", step)) == expected.pop(step, None)
            case list():
                store.replace(step)
                expected = {each.metadata.name: each for each in step}
        found = sorted(expected.values(), key=lambda each: each.metadata.name)
        assert dict(store) == {each.metadata.key: each for each in found}
        for label in "xyz":
            assert store.by(BY_LABEL, label) == [each for each in found if label in (each.metadata.labels or {})]
        for length in range(4):
            assert store.by(BY_LENGTH, length) == [
                each for each in found if len(each.metadata.labels or {}) == length
            ]
    kept = sum(len(each) for each in store._reverse.values())
    fresh = Store(INDEXES)
    fresh.replace(expected.values())
    assert kept == sum(len(each) for each in fresh._reverse.values())


@given(st.lists(st.tuples(names, st.sets(st.integers(0, 3))), max_size=20))
def test_a_reverse_keeps_nothing_empty(steps: list[tuple[str, set[int]]]) -> None:
    reverse = Reverse[str, int]()
    expected: dict[str, set[int]] = {}
    for key, values in steps:
        reverse.put(key, values)
        expected[key] = values
        for value in range(4):
            assert set(reverse.keys(value)) == {key for key, has in expected.items() if value in has}
    values_there = set().union(*expected.values())
    assert len(reverse) == sum(map(bool, expected.values())) + len(values_there)


def test_a_change_touches_what_it_leaves_and_where_it_comes() -> None:
    one, two = service("a", "x", "y"), service("a", "y", "z")
    key = one.metadata.key
    assert BY_LABEL.touched(Change(key, None, one)) == {"x", "y"}
    assert BY_LABEL.touched(Change(key, one, two)) == {"x", "y", "z"}
    assert BY_LABEL.touched(Change(key, two, None)) == {"y", "z"}


def test_what_an_index_raises_is_found_out_before_anything_is_changed() -> None:
    def mistaken(obj: Service) -> Iterable[str]:
        yield "x"
        raise KeyError(obj.metadata.name)

    store = Store([Index(mistaken)])
    with pytest.raises(KeyError):
        store.check(service("a"))
    assert len(store) == 0
