"""Reads the table from the kernel: all of it, or as little as the units' marks allow. Changes nothing."""

from collections.abc import Iterable
from typing import NamedTuple

from moorage.dataplane import units
from moorage.dataplane.changes import Content, Ledger
from moorage.dataplane.model import ServiceAddress, UnitKey
from moorage.dataplane.nft import Nft
from moorage.dataplane.policies import is_made_on_use
from moorage.dataplane.schema import (
    CONTAINERS,
    DIGEST,
    OF_FAMILY,
    UNDER_WAY,
    Container,
    Element,
    Elements,
    ReadBack,
    text,
    value_of,
)


class Recalled(NamedTuple):
    """The part of the kernel's content that may differ from what it should be."""

    content: Content
    same: frozenset[UnitKey] = frozenset()
    """Units that are right already; their elements were not listed."""


async def read_all(nft: Nft) -> Content:
    """Everything but digests and learned sessions. Raises NftError."""
    listed = {each: await _listed(nft, each) for each in CONTAINERS if each.read_back is not ReadBack.APART}
    return await _content(nft, listed)


async def recall(nft: Nft, ledger: Ledger) -> Recalled:
    """Finds what differs, or may differ, from the ledger's state, by the units' marks. Raises NftError.

    The marks must be trustworthy: see `is_under_way`.
    """
    carried = {each.carried: await _listed(nft, each.carried) for each in OF_FAMILY.values()}
    marks = {
        key: mark
        for container, each in carried.items()
        for key, _, mark in _owned(container, each)
        if isinstance(key, ServiceAddress)
    }
    same = frozenset[UnitKey](
        key for key, mark in marks.items() if key in ledger.state and units.mark(ledger.state[key]) == mark
    )
    doubtful = {key.family for key in marks.keys() - same}
    listed = dict(carried)
    for family, containers in OF_FAMILY.items():
        for each in containers.each():
            marked = each.owner is containers.carried.owner
            if each.read_back is ReadBack.LIST and each not in listed and (family in doubtful or not marked):
                listed[each] = await _listed(nft, each)
    content = await _content(nft, listed, same)
    remembered: dict[UnitKey, Elements] = {
        key: units.remembered(key, marks[key], ledger.learns) for key in marks.keys() - same
    }
    both = {key: {**remembered.get(key, {}), **own} for key, own in content.units.items()}
    return Recalled(content._replace(units=both), same)


async def is_under_way(nft: Nft) -> bool:
    """Whether the units' marks cannot be trusted: a change was unfinished, or the rules are new."""
    return any(text(each.key) == UNDER_WAY for each in await nft.elements(DIGEST.name))


async def comment(nft: Nft, container: Container) -> str | None:
    """The comment of the first element of a set; None if there is none."""
    return next((each.comment for each in await nft.elements(container.name)), None)


Listed = list[tuple[UnitKey | None, str, str]]
"""For each element: the unit that owns it, and key and value as nft writes them."""


async def _listed(nft: Nft, container: Container) -> Listed:
    owner = container.owner
    return [
        (owner(container, each.key) if owner else None, text(each.key), value_of(container, each))
        for each in await nft.elements(container.name)
    ]


def _owned(container: Container, listed: Listed) -> Iterable[tuple[UnitKey, str, str]]:
    return ((unit, key, value) for unit, key, value in listed if unit is not None)


async def _content(nft: Nft, listed: dict[Container, Listed], same: frozenset[UnitKey] = frozenset()) -> Content:
    own: dict[UnitKey, Elements] = {}
    shared = set()
    for container, elements in listed.items():
        for unit, key, value in elements:
            if unit is None:
                shared.add(Element(container, key))
            elif unit not in same:
                own.setdefault(unit, {}).setdefault(container, {})[key] = value
    return Content(own, shared, set(filter(is_made_on_use, await nft.chains())))
