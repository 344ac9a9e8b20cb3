"""The mirror: our own writes are known at once, and forgotten as soon as the watch knows better."""

import asyncio

import pytest

from moorage.api.core_v1 import Service
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.cluster.store import Change, Index, Store
from moorage.operator.mirror import Mirror

KEY = ObjectKey("frontend", "backend")


def service(version: str, uid: str = "1", label: str = "x") -> Service:
    labels = {"of": label}
    meta = ObjectMeta(name="backend", namespace="frontend", uid=uid, resource_version=version, labels=labels)
    return Service(metadata=meta)


def label(obj: Service) -> list[str]:
    return list((obj.metadata.labels or {}).values())


BY_LABEL = Index(label)


class Watched:
    """A mirror, and the store of a watch that lags behind."""

    def __init__(self) -> None:
        self.store = Store([BY_LABEL])
        self.expired: list[ObjectKey] = []
        self.mirror = Mirror(self.store, lambda change: self.expired.append(change.key))

    def tell(self, obj: Service | None) -> Change[Service]:
        old = self.store.discard(KEY)
        if obj is not None:
            self.store.put(obj)
        return self.mirror.watched(Change(KEY, old, obj))

    @property
    def version(self) -> str | None:
        found = self.mirror.get(KEY)
        return found.metadata.resource_version if found else None


async def test_a_write_is_seen_before_the_watch_tells_of_it_and_through_older_news() -> None:
    watched = Watched()
    watched.tell(service("7"))
    watched.mirror.wrote(service("12"), made=False)
    assert watched.version == "12"
    watched.tell(service("9"))
    assert watched.version == "12"
    watched.tell(service("12"))
    watched.tell(service("15"))
    assert watched.version == "15"


async def test_a_watch_that_was_faster_than_the_answer_wins() -> None:
    watched = Watched()
    watched.tell(service("15"))
    watched.mirror.wrote(service("12"), made=False)
    assert watched.version == "15"


async def test_an_answer_that_the_watch_has_shown_already_is_not_held() -> None:
    watched = Watched()
    watched.tell(service("12"))
    watched.mirror.wrote(service("12"), made=True)
    assert watched.mirror.get(KEY) is watched.store[KEY]


async def test_an_answer_that_comes_after_the_watch_told_of_the_end_brings_nothing_back() -> None:
    watched = Watched()
    watched.tell(service("7"))
    watched.tell(service("12"))
    watched.tell(None)
    watched.mirror.wrote(service("12"), made=False)
    assert watched.version is None
    watched.tell(service("a", uid="2"))
    watched.mirror.wrote(service("b"), made=False)
    assert watched.version == "a", "another object of that name"


async def test_what_was_made_is_known_and_changed_before_the_watch_tells_of_it() -> None:
    watched = Watched()
    watched.mirror.wrote(service("12"), made=True)
    watched.mirror.wrote(service("13"), made=False)
    assert watched.version == "13"


async def test_what_is_deleted_or_known_to_be_gone_is_gone() -> None:
    watched = Watched()
    watched.mirror.wrote(service("12"), made=True)
    watched.tell(None)
    assert watched.version is None
    watched.mirror.wrote(service("20"), made=True)
    watched.mirror.gone(KEY)
    assert watched.version is None


async def test_versions_that_are_no_numbers_are_taken_in_the_order_in_which_they_come() -> None:
    watched = Watched()
    watched.mirror.wrote(service("b"), made=True)
    watched.tell(service("a"))
    assert watched.version == "a"


@pytest.mark.looptime
async def test_a_write_that_the_watch_never_tells_of_is_forgotten_after_a_while() -> None:
    watched = Watched()
    watched.mirror.wrote(service("12"), made=True)
    await asyncio.sleep(Mirror.PATIENCE_SECONDS / 2)
    watched.mirror.wrote(service("13"), made=False)
    await asyncio.sleep(Mirror.PATIENCE_SECONDS / 2 + 1)
    assert (watched.version, watched.expired) == ("13", [])
    await asyncio.sleep(Mirror.PATIENCE_SECONDS / 2)
    assert (watched.version, watched.expired) == (None, [KEY])


@pytest.mark.looptime
async def test_an_index_finds_what_was_written_and_not_what_it_replaces() -> None:
    watched = Watched()
    watched.tell(service("7"))
    written = service("12", label="y")
    watched.mirror.wrote(written, made=False)
    assert watched.mirror.by(BY_LABEL, "x") == []
    assert watched.mirror.by(BY_LABEL, "y") == [written]
    await asyncio.sleep(Mirror.PATIENCE_SECONDS + 1)
    assert watched.mirror.by(BY_LABEL, "x") == [service("7")]
    assert watched.mirror.by(BY_LABEL, "y") == []


async def test_a_change_goes_from_what_was_written_to_what_the_watch_tells() -> None:
    watched = Watched()
    watched.tell(service("7"))
    written, newer = service("12", label="y"), service("15", label="z")
    watched.mirror.wrote(written, made=False)
    assert watched.tell(service("9")) == (KEY, written, written)
    assert watched.tell(newer) == (KEY, written, newer)
    assert watched.tell(None) == (KEY, newer, None)


@pytest.mark.looptime
async def test_what_the_watch_has_told_of_or_what_is_gone_does_not_expire() -> None:
    watched = Watched()
    watched.mirror.wrote(service("12"), made=True)
    watched.tell(service("12"))
    await asyncio.sleep(Mirror.PATIENCE_SECONDS + 1)
    assert (watched.version, watched.expired) == ("12", [])
    watched.mirror.wrote(service("13"), made=False)
    watched.mirror.gone(KEY)
    await asyncio.sleep(Mirror.PATIENCE_SECONDS + 1)
    assert watched.expired == []
