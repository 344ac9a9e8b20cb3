"""Which endpoint is in which EndpointSlice: none moves without need (KEP-752)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moorage.api.discovery_v1 import EndpointPort

MOST = 100
"""Endpoints of one slice, as kube-controller-manager's --max-endpoints-per-slice has it."""


class Key(NamedTuple):
    """What all endpoints of one slice have in common."""

    address_type: str
    """Never changes in a slice."""
    ports: tuple[EndpointPort, ...]


class Contents(NamedTuple):
    """A slice, as far as packing goes: the names of its endpoints in their order."""

    key: Key
    names: tuple[str, ...]


class Packing(NamedTuple):
    """Where the wanted endpoints are to be."""

    kept: tuple[Contents, ...]
    """The existing slices, in the order given. One without names is no longer needed."""
    new: tuple[Contents, ...]
    givers: frozenset[int]
    """Which of `kept` give an endpoint that is still wanted to another slice, or gave it and still have it; none of
    them is given one. So when all other changes are written first, every endpoint is in a slice at any time."""


def pack(wanted: Mapping[str, Key], existing: Sequence[Contents]) -> Packing:
    """Endpoints (`wanted` by name) stay where they are; others go to slices with room, then to new ones.

    A slice whose endpoints all get other ports gets these as a whole. Slices are never merged to be fewer.
    """
    settled: set[str] = set()
    keys: list[Key] = []
    names: list[list[str]] = []

    def stay(contents: Contents, key: Key) -> list[str]:
        here: list[str] = []
        for name in contents.names:
            if wanted.get(name) == key and name not in settled and len(here) < MOST:
                settled.add(name)
                here.append(name)
        return here

    for contents in existing:
        keys.append(contents.key)
        names.append(stay(contents, contents.key))
    for index, contents in enumerate(existing):
        if not names[index] and (key := _other_key(wanted, contents, settled)):
            keys[index] = key
            names[index] = stay(contents, key)

    fresh = {name for name in wanted if name not in settled}
    givers = frozenset(
        index
        for index, contents in enumerate(existing)
        if tuple(names[index]) != contents.names
        and not wanted.keys().isdisjoint(set(contents.names).difference(names[index]))
    )
    moving = fresh.intersection(name for index in givers for name in existing[index].names)
    by_key: dict[Key, list[str]] = {}
    for name, key in wanted.items():
        if name in fresh:
            by_key.setdefault(key, []).append(name)
    new: list[Contents] = []
    for key, rest in by_key.items():
        # What is written anyway is filled first.
        room = [index for index in range(len(existing)) if keys[index] == key and len(names[index]) < MOST]
        room.sort(key=lambda index: tuple(names[index]) == existing[index].names and key == existing[index].key)
        for index in room:
            takes = [name for name in rest if index not in givers or name not in moving][: MOST - len(names[index])]
            names[index] += takes
            gone = set(takes)
            rest = [name for name in rest if name not in gone]
        new += [Contents(key, tuple(rest[start : start + MOST])) for start in range(0, len(rest), MOST)]
    kept = tuple(Contents(key, tuple(each)) for key, each in zip(keys, names, strict=True))
    return Packing(kept, tuple(new), givers)


def _other_key(wanted: Mapping[str, Key], contents: Contents, settled: set[str]) -> Key | None:
    """The ports that a slice, none of whose endpoints keeps its own, can change to."""
    for name in contents.names:
        key = wanted.get(name)
        if key is not None and name not in settled and key.address_type == contents.key.address_type:
            return key
    return None
