import asyncio
import itertools
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from moorage.api.core_v1 import Service, ServiceSpec
from moorage.api.meta import ObjectKey, ObjectMeta
from moorage.cluster.errors import AnswerError, ApiError, SilentError, UnreachableError
from moorage.cluster.events import Bookmark, Event
from moorage.cluster.reading import Listing, Unreadable
from moorage.cluster.reflector import Reflector
from moorage.cluster.store import Change
from moorage.errors import MoorageError

Item = Event[Service] | Bookmark
GONE = ApiError(410, "Expired", "too old resource version")
DOWN = UnreachableError("https://192.0.2.1: cannot connect")


def service(name: str, version: int, uid: str = "") -> Service:
    return Service(metadata=ObjectMeta(name=name, namespace="n", uid=uid or name, resource_version=str(version)))


def listing(version: int, *items: Service) -> Listing[Service]:
    return Listing(list(items), str(version))


class Script:
    """A client that plays what each list and each watch gives, in order, and notes the call and the loop's time.

    A watch is a list of what it yields, of errors that it raises, and of seconds that it waits. When the script is
    at its end everything hangs.
    """

    def __init__(self, *plays: Any) -> None:
        self._plays = iter(plays)
        self.calls: list[tuple[float, str]] = []
        self.done = asyncio.Event()

    def _next(self, call: str) -> Any:
        self.calls.append((round(asyncio.get_running_loop().time() - self._started, 3), call))
        play = next(self._plays, None)
        if play is None:
            self.done.set()
        return play

    def start(self) -> None:
        self._started = asyncio.get_running_loop().time()

    async def list(self, kind: type[Any], namespace: str | None = None, **selectors: Any) -> Listing[Any]:
        play = self._next("list")
        if play is None:
            await asyncio.Event().wait()
        if isinstance(play, MoorageError):
            raise play
        assert isinstance(play, Listing), f"the reflector listed; the script has {play}"
        return play

    async def watch(
        self, kind: type[Any], namespace: str | None = None, *, resource_version: str, **selectors: Any
    ) -> AsyncGenerator[Any, None]:
        play = self._next(f"watch {resource_version}")
        if isinstance(play, MoorageError):
            raise play
        yield Bookmark(resource_version)
        if play is None:
            await asyncio.Event().wait()
        assert isinstance(play, list), f"the reflector watched; the script has {play}"
        for step in play:
            if isinstance(step, MoorageError):
                raise step
            if isinstance(step, float):
                await asyncio.sleep(step)
            else:
                yield step


Play = Callable[..., Coroutine[Any, Any, tuple[Script, Reflector[Service], list[tuple[str, str | None]]]]]


@pytest.fixture
async def play() -> Play:
    """Plays a script to its end with a reflector and gives the changes that it reported as (name, version)."""

    async def run(*plays: Any, **options: Any) -> tuple[Script, Reflector[Service], list[tuple[str, str | None]]]:
        script = Script(*plays)
        script.start()
        changes: list[tuple[str, str | None]] = []
        stored = []
        known: dict[ObjectKey, Service | None] = {}

        def on_change(change: Change[Service]) -> None:
            key, old, new = change
            before = known.get(key)  # of what could not be read meanwhile, under another version by now
            stored.append((old and old.metadata.uid) == (before and before.metadata.uid))
            stored.append(reflector.store.get(key) is new or new is None)
            changes.append((key.name, new.metadata.resource_version if new else None))
            known[key] = new

        reflector = Reflector(script, Service, on_change=on_change, jitter=lambda: 0.0, **options)
        task = asyncio.create_task(reflector.run())
        done = asyncio.create_task(script.done.wait())
        await asyncio.wait([task, done], timeout=3600, return_when=asyncio.FIRST_COMPLETED)
        # Let what came with the last answer be dealt with.
        await asyncio.sleep(0.001)
        for one in (task, done):
            one.cancel()
        for error in await asyncio.gather(task, done, return_exceptions=True):
            if isinstance(error, Exception):
                raise error
        assert all(stored)
        return script, reflector, changes

    return run


pytestmark = pytest.mark.looptime


async def test_the_store_follows_list_and_watch(play: Play) -> None:
    script, reflector, changes = await play(
        listing(5, service("a", 1), service("b", 2)),
        [
            Event("ADDED", service("c", 6)),
            Event("MODIFIED", service("a", 7)),
            Event("DELETED", service("b", 8)),
            Bookmark("20"),
        ],
    )
    assert changes == [("a", "1"), ("b", "2"), ("c", "6"), ("a", "7"), ("b", None)]
    assert {key: obj.metadata.resource_version for key, obj in reflector.store.items()} == {
        ("n", "a"): "7",
        ("n", "c"): "6",
    }
    assert [call for _, call in script.calls] == ["list", "watch 5", "watch 20"]


async def test_managed_fields_are_not_kept(play: Play) -> None:
    fat = Service(metadata=ObjectMeta(name="a", namespace="n", resource_version="1", managed_fields=[{"x": "y"}]))
    _, reflector, _ = await play(listing(5, fat))
    assert reflector.store[ObjectKey("n", "a")].metadata == ObjectMeta(name="a", namespace="n", resource_version="1")


async def test_a_transform_decides_what_is_kept_of_each_object(play: Play) -> None:
    def without_spec(obj: Service) -> Service:
        return Service(metadata=obj.metadata)

    spec = ServiceSpec(cluster_ip="10.96.0.7")
    fat, fatter = (
        msgspec.structs.replace(service(name, version), spec=spec) for name, version in (("a", 1), ("b", 7))
    )
    _, reflector, changes = await play(listing(5, fat), [Event("ADDED", fatter)], transform=without_spec)
    assert list(reflector.store.values()) == [service("a", 1), service("b", 7)]
    assert changes == [("a", "1"), ("b", "7")]


async def test_synced_comes_with_the_first_list_even_an_empty_one(play: Play) -> None:
    _, reflector, _ = await play(DOWN)
    assert not reflector.synced.is_set()
    assert reflector.error is DOWN
    _, reflector, _ = await play(listing(5))
    assert reflector.synced.is_set()


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (404, "NotFound")])
async def test_a_list_that_is_refused_is_an_answer_too(play: Play, status: int, reason: str) -> None:
    _, reflector, _ = await play(DOWN, ApiError(500, "InternalError", "not now"))
    assert not reflector.answered.is_set()
    _, reflector, _ = await play(ApiError(status, reason, "no"))
    assert (reflector.answered.is_set(), reflector.synced.is_set()) == (True, False)
    _, reflector, _ = await play(listing(5))
    assert (reflector.answered.is_set(), reflector.synced.is_set()) == (True, True)


async def test_a_broken_watch_goes_on_where_it_was(play: Play) -> None:
    script, reflector, changes = await play(
        listing(5, service("a", 1)),
        [Event("MODIFIED", service("a", 7)), DOWN],
        DOWN,
        [Event("MODIFIED", service("a", 9)), 1.0],
    )
    assert [call for _, call in script.calls] == ["list", "watch 5", "watch 7", "watch 7", "watch 9"]
    assert changes == [("a", "1"), ("a", "7"), ("a", "9")]
    assert reflector.error is None


async def test_while_disconnected_the_last_known_state_stays(play: Play) -> None:
    _, reflector, changes = await play(listing(5, service("a", 1)), DOWN, DOWN, GONE, DOWN, DOWN)
    assert list(reflector.store) == [("n", "a")]
    assert reflector.synced.is_set()
    assert reflector.error is DOWN
    assert changes == [("a", "1")]


async def test_the_last_error_keeps_nothing_of_the_answer(play: Play) -> None:
    async def fail() -> None:
        answer = "x" * 1000
        try:
            int(answer)
        except ValueError:
            raise UnreachableError("no") from None

    error = (await asyncio.gather(fail(), return_exceptions=True))[0]
    assert isinstance(error, UnreachableError)
    assert error.__context__
    _, reflector, _ = await play(error)
    assert reflector.error is error
    assert error.__traceback__ is None
    assert error.__context__ is None


async def test_after_410_it_lists_at_once_and_reports_what_went_meanwhile(play: Play) -> None:
    script, reflector, changes = await play(
        listing(5, service("a", 1), service("b", 2), service("same", 3)),
        [GONE],
        listing(90, service("c", 80), service("same", 3), service("a", 81)),
    )
    assert changes[:3] == [("a", "1"), ("b", "2"), ("same", "3")]
    assert changes[3] == ("b", None), "what is gone comes before what is new"
    assert sorted(changes[4:]) == [("a", "81"), ("c", "80")]
    assert [name for _, name in reflector.store] == ["c", "same", "a"]
    assert script.calls == [(0, "list"), (0, "watch 5"), (0, "list"), (0, "watch 90")]


async def test_an_object_that_was_made_again_is_reported_as_gone_first(play: Play) -> None:
    _, _, changes = await play(
        listing(5, service("a", 1, uid="first"), service("b", 2, uid="first")),
        [Event("ADDED", service("a", 7, uid="second")), GONE],
        listing(90, service("a", 7, uid="second"), service("b", 80, uid="second")),
    )
    assert changes == [("a", "1"), ("b", "2"), ("a", None), ("a", "7"), ("b", None), ("b", "80")]


async def test_a_deletion_of_something_unknown_is_not_reported(play: Play) -> None:
    _, _, changes = await play(listing(5), [Event("DELETED", service("a", 7))])
    assert changes == []


async def test_failures_are_spaced_out_and_a_heard_event_starts_anew(play: Play) -> None:
    script, _, _ = await play(
        DOWN,
        DOWN,
        DOWN,
        listing(5),
        [Bookmark("6"), DOWN],
        DOWN,
        [],
    )
    assert script.calls == [
        (0, "list"),
        (0.2, "list"),
        (0.6, "list"),
        (1.4, "list"),
        (1.4, "watch 5"),
        (1.6, "watch 6"),
        (2.0, "watch 6"),
        (2.8, "watch 6"),
    ]


async def test_repeated_410s_do_not_become_a_busy_loop(play: Play) -> None:
    plays = itertools.chain.from_iterable((listing(version), [GONE]) for version in range(10))
    script, _, _ = await play(*plays)
    assert script.calls[-1][0] > 60


async def test_a_watch_that_ends_at_once_is_a_failure_a_quiet_one_is_not(play: Play) -> None:
    script, reflector, _ = await play(listing(5), [], [], [], [300.0], [300.0])
    assert [time for time, _ in script.calls] == [0, 0, 0.2, 0.6, 1.4, 301.4, 601.4]
    assert {call for _, call in script.calls} == {"list", "watch 5"}
    assert reflector.error is None


async def test_silence_is_no_failure_as_long_as_the_next_watch_stands(play: Play) -> None:
    quiet = [100.0, SilentError("no answer for 100 s")]
    with capture_logs() as logs:
        script, reflector, changes = await play(listing(5, service("a", 1)), quiet, quiet, [100.0])
    assert [time for time, _ in script.calls[:4]] == [0, 0, 100, 200]
    assert {call for _, call in script.calls[1:]} == {"watch 5"}
    assert changes == [("a", "1")]
    assert logs == []
    assert reflector.error is None
    with capture_logs() as logs:
        await play(listing(5), quiet, DOWN)
    assert [entry.get("error") for entry in logs] == [str(DOWN), None], "and then it watches again"


@pytest.mark.parametrize("error", [ApiError(403, "Forbidden", "no"), AnswerError("garbage")])
async def test_other_errors_of_a_watch_lead_to_a_list(play: Play, error: MoorageError) -> None:
    script, _, _ = await play(listing(5), [error], listing(9))
    assert script.calls == [(0, "list"), (0, "watch 5"), (0.2, "list"), (0.2, "watch 9")]


async def test_the_server_may_ask_for_a_longer_wait_within_bounds(play: Play) -> None:
    script, _, _ = await play(ApiError(429, "TooManyRequests", "no", 20), ApiError(429, "x", "no", 9999), listing(1))
    assert [time for time, _ in script.calls] == [0, 20, 80, 80]


# --- objects that cannot be dealt with ------------------------------------------------------------------------------


def bad(name: str, version: int, uid: str = "", why: str = "Expected int", *, deleted: bool = False) -> Unreadable:
    return Unreadable(service(name, version, uid).metadata, why, deleted)


def versions(reflector: Reflector[Service]) -> dict[str, str | None]:
    return {name: obj.metadata.resource_version for (_, name), obj in reflector.store.items()}


async def test_an_object_that_cannot_be_read_leaves_the_others_as_they_are(play: Play) -> None:
    script, reflector, changes = await play(
        Listing([service("a", 1)], "5", (bad("b", 2),)), [Event("MODIFIED", service("a", 6)), bad("c", 7)]
    )
    assert changes == [("a", "1"), ("a", "6")]
    assert set(reflector.unreadable) == {("n", "b"), ("n", "c")}
    assert [call for _, call in script.calls] == ["list", "watch 5", "watch 7"]


async def test_its_last_good_state_stays_as_of_now(play: Play) -> None:
    spec = ServiceSpec(cluster_ip="10.96.0.1")
    _, reflector, changes = await play(
        listing(5, msgspec.structs.replace(service("a", 1), spec=spec)),
        [bad("a", 6)],
        GONE,
        Listing([], "9", (bad("a", 8),)),
    )
    assert changes == [("a", "1"), ("a", "8")]
    assert reflector.store[ObjectKey("n", "a")].spec == spec
    assert versions(reflector) == {"a": "8"}
    assert set(reflector.unreadable) == {("n", "a")}


async def test_it_is_forgotten_once_it_is_gone_or_can_be_read(play: Play) -> None:
    _, reflector, changes = await play(
        Listing([service("a", 1), service("b", 2)], "5", (bad("c", 3),)),
        [bad("a", 6), bad("b", 7), bad("a", 8, deleted=True), Event("MODIFIED", service("b", 9)), bad("d", 10)],
        GONE,
        Listing([service("b", 9), service("d", 11)], "12"),
    )
    assert changes == [("a", "1"), ("b", "2"), ("a", None), ("b", "9"), ("d", "11")]
    assert reflector.unreadable == {}
    assert versions(reflector) == {"b": "9", "d": "11"}


async def test_what_was_good_of_another_object_of_the_name_does_not_stay(play: Play) -> None:
    _, reflector, changes = await play(listing(5, service("a", 1)), [bad("a", 6, "new")])
    assert changes == [("a", "1"), ("a", None)]
    assert reflector.store == {}
    _, reflector, changes = await play(listing(5, service("a", 1)), GONE, Listing([], "9", (bad("a", 8, "new"),)))
    assert changes == [("a", "1"), ("a", None)]
    assert reflector.store == {}


async def test_it_is_told_and_logged_once(play: Play) -> None:
    told: list[ObjectKey] = []
    with capture_logs() as logs:
        await play(
            Listing([], "5", (bad("a", 1),)), [bad("a", 6), bad("a", 7, why="other")], on_unreadable=told.append
        )
    assert told == [("n", "a")] * 3
    told.clear()
    await play(Listing([], "5", (bad("a", 1), bad("b", 1))), [bad("a", 6, deleted=True)], GONE, Listing([], "9"),
               on_unreadable=told.append)  # fmt: skip
    assert told == [("n", "a"), ("n", "b"), ("n", "a"), ("n", "b")]
    assert [each["error"] for each in logs if each["log_level"] == "warning"] == ["Expected int", "other"]


async def test_what_cannot_be_made_of_an_object_costs_that_object(play: Play) -> None:
    def only_b(obj: Service) -> Service:
        if obj.metadata.name == "a":
            raise ZeroDivisionError
        return obj

    with capture_logs() as logs:
        _, reflector, changes = await play(
            listing(5, service("a", 1), service("b", 2)), [Event("ADDED", service("a", 6))], transform=only_b
        )
    assert changes == [("b", "2")]
    assert reflector.unreadable[ObjectKey("n", "a")].why == "ZeroDivisionError()"
    assert {each["object"] for each in logs if each["log_level"] == "error"} == {"n/a"}


async def test_what_the_callback_raises_costs_the_object_it_was_told_of() -> None:
    told: list[str] = []

    def broken(change: Change[Service]) -> None:
        if change.key.name == "a":
            raise ZeroDivisionError
        told.append(change.key.name)

    script = Script(
        listing(5, service("a", 1), service("b", 2)),
        [Event("MODIFIED", service("a", 6)), Event("MODIFIED", service("b", 7)), Event("DELETED", service("a", 8))],
    )
    script.start()
    reflector = Reflector(script, Service, on_change=broken)
    task = asyncio.create_task(reflector.run())
    await script.done.wait()
    assert told == ["b", "b"]
    assert versions(reflector) == {"b": "7"}
    task.cancel()
