"""The store's history, held against a model: a dict that is copied after every write."""

import asyncio
import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorage_lab.apiserver.objects import Obj
from moorage_lab.apiserver.status import StatusError
from moorage_lab.apiserver.store import Store
from moorage_lab.apiserver.watch import events
from tests.support.apiserver import kind

SERVICE = kind("Service")
POD = kind("Pod")


def obj(name: str, **more: Any) -> Obj:
    return {"metadata": {"name": name, "namespace": "n", "uid": f"uid-{name}", **more}}


WRITES = st.lists(
    st.tuples(st.sampled_from(["put", "remove", "other"]), st.sampled_from("abc"), st.sampled_from(["x", "y"])),
    max_size=25,
)


def written(writes: list[tuple[str, str, str]]) -> tuple[Store, dict[int, dict[str, Obj]]]:
    """A store after some writes, and what it held at each resourceVersion."""
    store = Store()
    states: dict[int, dict[str, Obj]] = {1: {}}
    state: dict[str, Obj] = {}
    for verb, name, label in writes:
        if verb == "put":
            state[name] = store.put(SERVICE, obj(name, labels={"l": label}))
        elif verb == "other":
            store.put(POD, obj(f"pod-{name}"))
        elif name in state:
            store.remove(SERVICE, "n", name)
            del state[name]
        states[store.version] = copy.deepcopy(state)
    return store, states


@given(WRITES, st.sampled_from([None, "x"]))
def test_a_watch_from_any_version_replays_to_exactly_the_state(
    writes: list[tuple[str, str, str]], label: str | None
) -> None:
    store, states = written(writes)

    def selected(one: Obj) -> bool:
        return label is None or one["metadata"]["labels"]["l"] == label

    final = {name: one for name, one in states[store.version].items() if selected(one)}
    for since, start in states.items():
        replayed = {name: one for name, one in start.items() if selected(one)}
        for type_, one in events(store.changes(since), SERVICE, "n", selected):
            name = one["metadata"]["name"]
            assert (type_ == "ADDED") is (name not in replayed)
            if type_ == "DELETED":
                del replayed[name]
            else:
                replayed[name] = one
        assert replayed == final


@given(WRITES)
def test_a_list_at_any_version_is_the_state_at_that_version(writes: list[tuple[str, str, str]]) -> None:
    store, states = written(writes)
    for version, state in states.items():
        listed = store.list(SERVICE, "n", at=version)
        assert listed == [state[name] for name in sorted(state)]


def test_versions_count_the_writes_of_all_kinds() -> None:
    store = Store()
    versions = [store.put(kind, obj("a"))["metadata"]["resourceVersion"] for kind in (SERVICE, POD)]
    assert versions == ["2", "3"]
    assert store.remove(POD, "n", "a")["metadata"]["resourceVersion"] == "4"


def test_history_that_is_no_longer_kept_is_expired() -> None:
    store = Store(history=2)
    for name in "abcd":
        store.put(SERVICE, obj(name))
    assert [change.version for change in store.changes(3)] == [4, 5]
    for since in (2, 6):
        with pytest.raises(StatusError) as caught:
            store.changes(since)
        assert (caught.value.code, caught.value.reason) == (410, "Expired")
    store.compact()
    with pytest.raises(StatusError):
        store.changes(4)
    assert list(store.changes(5)) == []


async def test_a_wait_ends_with_the_next_write() -> None:
    store = Store()
    waiting = asyncio.create_task(store.wait(store.version))
    await asyncio.sleep(0)
    assert not waiting.done()
    store.put(SERVICE, obj("a"))
    await asyncio.wait_for(waiting, 1)


def test_dependents_follow_the_owner_references() -> None:
    store = Store()
    store.put(SERVICE, obj("owner"))
    owned = {"ownerReferences": [{"uid": "uid-owner"}]}
    store.put(POD, obj("p", **owned))
    assert [one["metadata"]["name"] for _, one in store.dependents("uid-owner")] == ["p"]
    store.put(POD, obj("p"))
    assert store.dependents("uid-owner") == []
