"""Objects by namespace and name, and by any number of indexes.

Modelled on the tables of cilium/statedb: an index is declared once, as a function of an object, so nobody has to keep
a map right by hand after every kind of change.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from moorage.api.meta import Object, ObjectKey

T = TypeVar("T", bound=Object)
K = TypeVar("K", bound=Hashable)
V = TypeVar("V", bound=Hashable)


class Change(NamedTuple, Generic[T]):
    """An object was added (`old` is None), changed, or was removed (`new` is None)."""

    key: ObjectKey
    old: T | None
    new: T | None


class Index(Generic[T, K]):
    """Finds objects in a store by a property, such as the Service that they belong to.

    `keys(obj)` returns the keys of an object: none, one or several. It must be pure.
    """

    def __init__(self, keys: Callable[[T], Iterable[K]]) -> None:
        self.keys = keys

    def touched(self, change: Change[T]) -> set[K]:
        """The keys that a change affects: those of the object before and after it."""
        return {key for obj in (change.old, change.new) if obj is not None for key in self.keys(obj)}


BY_NAMESPACE: Index[Any, str] = Index(lambda obj: (obj.metadata.namespace or "",))
"""Of objects of any kind; those without namespace are under `""`."""


class Reverse(Generic[K, V]):
    """The keys for each value. Keys without values and values without keys take no memory."""

    def __init__(self) -> None:
        self._values: dict[K, tuple[V, ...]] = {}
        """Usually one: a set would take four times the memory."""
        self._keys: dict[V, set[K]] = {}

    def put(self, key: K, values: Iterable[V]) -> None:
        """Set the values of `key`."""
        old, new = self._values.get(key, ()), tuple(values)
        if old == new:
            return
        for value in set(old).difference(new):
            keys = self._keys[value]
            keys.remove(key)
            if not keys:
                del self._keys[value]
        for value in set(new).difference(old):
            self._keys.setdefault(value, set()).add(key)
        if new:
            self._values[key] = new
        else:
            self._values.pop(key, None)

    def keys(self, value: V) -> Collection[K]:
        return self._keys.get(value, frozenset())

    def __len__(self) -> int:
        """How many keys and values there are."""
        return len(self._values) + len(self._keys)


class Store(Mapping[ObjectKey, T]):
    """The objects of one kind, in the order in which they were added."""

    def __init__(self, indexes: Iterable[Index[T, Any]] = ()) -> None:
        self.indexes = tuple(indexes)
        self._objects: dict[ObjectKey, T] = {}
        self._reverse: dict[Index[T, Any], Reverse[ObjectKey, Any]] = {index: Reverse() for index in self.indexes}

    def by(self, index: Index[T, K], key: K) -> list[T]:
        """The objects that `index`, one of this store's indexes, finds under `key`; by namespace and name."""
        return [self._objects[each] for each in sorted(self._reverse[index].keys(key))]

    def check(self, obj: T) -> None:
        """Raises what an index raises for `obj`; in `put` it would be raised halfway."""
        for index in self.indexes:
            tuple(index.keys(obj))

    def put(self, obj: T) -> None:
        key = obj.metadata.key
        self._objects[key] = obj
        for index, reverse in self._reverse.items():
            reverse.put(key, index.keys(obj))

    def discard(self, key: ObjectKey) -> T | None:
        """Remove the object and return it; None if there was none."""
        for reverse in self._reverse.values():
            reverse.put(key, ())
        return self._objects.pop(key, None)

    def replace(self, objects: Iterable[T]) -> None:
        """Replace all objects with these."""
        self._objects.clear()
        for index in self.indexes:
            self._reverse[index] = Reverse()
        for obj in objects:
            self.put(obj)

    def __getitem__(self, key: ObjectKey) -> T:
        return self._objects[key]

    def __iter__(self) -> Iterator[ObjectKey]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)
