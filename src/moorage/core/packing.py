"""Decides which endpoint goes into which EndpointSlice. Endpoints do not move without need (KEP-752)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from moorage.api.discovery_v1 import EndpointPort

MAX_ENDPOINTS_PER_SLICE = 100
"""The default of kube-controller-manager's --max-endpoints-per-slice."""


class SliceKey(NamedTuple):
    """What all endpoints of a slice share."""

    address_type: str
    """It can never be changed."""
    ports: tuple[EndpointPort, ...]


class SliceContents(NamedTuple):
    """The content of a slice: the names of its endpoints, in order."""

    key: SliceKey
    names: tuple[str, ...]


class Packing(NamedTuple):
    """The slices in which the wanted endpoints will be."""

    kept: tuple[SliceContents, ...]
    """The existing slices, in the given order; a slice without names is to be deleted."""
    new: tuple[SliceContents, ...]
    losing: frozenset[int]
    """Indexes of slices in `kept` that lose a wanted endpoint to another slice, or still have one that is in another
    slice by now. None of them gains one that moves. So if all others are written first, every endpoint is in a slice
    at any time."""


def pack(wanted: Mapping[str, SliceKey], existing: Sequence[SliceContents]) -> Packing:
    """Endpoints (`wanted`, by name) stay where they are; new ones go to slices with room, then to new slices.

    If all endpoints of a slice get the same new ports, the slice gets these ports. Slices are never merged.
    """
    settled: set[str] = set()
    keys: list[SliceKey] = []
    names: list[list[str]] = []

    def stay(contents: SliceContents, key: SliceKey) -> list[str]:
        here: list[str] = []
        for name in contents.names:
            if wanted.get(name) == key and name not in settled and len(here) < MAX_ENDPOINTS_PER_SLICE:
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
    losing = frozenset(
        index
        for index, contents in enumerate(existing)
        if tuple(names[index]) != contents.names
        and not wanted.keys().isdisjoint(set(contents.names).difference(names[index]))
    )
    moving = fresh.intersection(name for index in losing for name in existing[index].names)
    by_key: dict[SliceKey, list[str]] = {}
    for name, key in wanted.items():
        if name in fresh:
            by_key.setdefault(key, []).append(name)
    new: list[SliceContents] = []
    for key, rest in by_key.items():
        # Slices that are written anyway are filled first.
        room = [
            index
            for index in range(len(existing))
            if keys[index] == key and len(names[index]) < MAX_ENDPOINTS_PER_SLICE
        ]
        room.sort(key=lambda index: tuple(names[index]) == existing[index].names and key == existing[index].key)
        for index in room:
            takes = [name for name in rest if index not in losing or name not in moving][
                : MAX_ENDPOINTS_PER_SLICE - len(names[index])
            ]
            names[index] += takes
            gone = set(takes)
            rest = [name for name in rest if name not in gone]
        new += [
            SliceContents(key, tuple(rest[start : start + MAX_ENDPOINTS_PER_SLICE]))
            for start in range(0, len(rest), MAX_ENDPOINTS_PER_SLICE)
        ]
    kept = tuple(SliceContents(key, tuple(each)) for key, each in zip(keys, names, strict=True))
    return Packing(kept, tuple(new), losing)


def _other_key(wanted: Mapping[str, SliceKey], contents: SliceContents, settled: set[str]) -> SliceKey | None:
    """The ports that a slice can change to, if none of its endpoints keeps the present ones."""
    for name in contents.names:
        key = wanted.get(name)
        if key is not None and name not in settled and key.address_type == contents.key.address_type:
            return key
    return None
