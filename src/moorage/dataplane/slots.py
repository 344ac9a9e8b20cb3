"""Slot tables: which of the M slots of a service leads to which endpoint.

The kernel picks a slot in [0, M) for every new connection, by a hash of the client's address (sticky) or at random
(balanced), and looks the endpoint up under (service, first slot of M + slot). Both expressions of nftables scale the
number to M by multiplication (`reciprocal_scale`), so every slot is an equal share of the clients.

Everything here is pure, with exact integer arithmetic or correctly rounded division, so every node computes the same
table from the same endpoints. docs/slots.md compares ways to fill a table.
"""

import re
from array import array
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import shake_128
from itertools import chain, cycle, repeat, takewhile
from math import gcd, inf, log2
from operator import truediv
from struct import unpack

MAX_SLOTS = 4096
"""Size of the largest table. There is a policy chain for each M in use, and nft takes 2.4 KB for each element."""

STICKY_SIZES = (24, 60, 120, 240, 480, 960, 1920, MAX_SLOTS)
"""Sizes of sticky tables: with many divisors, so that common endpoint counts divide them evenly, about doubling."""

STICKY_SLOTS_PER_ENDPOINT = 4
"""Fewer would let one endpoint get more than 5/4 of another's clients; more would cost elements."""

MAX_EXACT_SLOTS = 256
"""How many slots a balanced service may use to follow its weights exactly."""

LONG_TABLE_SLOTS = 250
"""Tables with more slots are filled in stages, because nearly all slots find their owner in the first turns."""
STAGES = (64, 512)
"""How many turns an endpoint of average weight has in the first stages; in the last one it has all. 87 of 1,000
endpoints still have room after the first stage, 5 after the second."""
FEWEST_TURNS = 16
"""How many turns the lightest endpoints have in a stage."""

MAX_REMEMBERED_ENDPOINTS = 20_000
"""How many endpoints' first turns in long tables are remembered, for the next change: 0.4 KB each, so 0.4 MB for a
Service of 1,000 endpoints, and 8 MB at most."""


def modulus(weights: Sequence[int], sticky: bool) -> int:
    """M, the number of slots of a service whose endpoints have these weights (each at least 1).

    Balanced: the smallest M that follows the weights exactly; if that would be large, one that follows them to within
    one slot. Sticky: a size from a ladder, with at least four slots for the lightest endpoint, so that most changes
    of the endpoints keep M, because another M gives most clients another first choice. Raises ValueError if there are
    no weights or one is below 1.
    """
    if not weights or min(weights) < 1:
        raise ValueError(f"weights must be at least one number, each at least 1: {list(weights)}")
    endpoints, total = len(weights), sum(weights)
    if endpoints == 1:
        return 1
    lightest = -(-total // min(weights))  # how many endpoints there would be if all were as light as the lightest
    if sticky:
        return next((size for size in STICKY_SIZES if size >= STICKY_SLOTS_PER_ENDPOINT * lightest), MAX_SLOTS)
    return min(total // gcd(*weights), max(MAX_EXACT_SLOTS, 4 * endpoints, lightest), MAX_SLOTS)


def first_slot(modulus: int) -> int:
    """Number of the first slot of a table of M slots: M * (M - 1) / 2, so that tables of different M share none."""
    return modulus * (modulus - 1) // 2


def table(identities: Sequence[str], weights: Sequence[int], modulus: int) -> tuple[int, ...]:
    """For each slot in [0, modulus), the index in `identities` of the endpoint that it leads to.

    Depends on the set of (identity, weight) pairs only, not on their order. An endpoint has its exact share of the
    slots, modulus * weight / total, rounded down or up; with equal weights the counts differ by at most one.

    Each endpoint prefers the slots in its own order, a permutation drawn from its identity. In turn k each bids for
    its k-th preference, and gets it if the slot is free and the endpoint has room. A heavier endpoint has turns more
    often. This is as in Maglev (Eisenbud et al., NSDI 2016, section 3.4), but a lost bid is not made up for in the
    same turn, which halves what an added or removed endpoint changes for the others.

    Raises ValueError if an identity occurs twice or has no weight.
    """
    if len(set(identities)) != len(identities):
        raise ValueError(f"identities of endpoints must differ: {sorted(identities)}")
    drawn = sorted(
        (shake_128(identity.encode()).digest(min(2 * modulus, 16)), index, weight)
        for index, (identity, weight) in enumerate(zip(identities, weights, strict=True))
    )
    total = sum(weights)
    room = [modulus * weight // total for _, _, weight in drawn]
    may_round_up = [modulus * weight % total > 0 for _, _, weight in drawn]
    round_ups = modulus - sum(room)

    owner = [-1] * modulus
    free = modulus
    # Later turns are computed only for endpoints that still have room. Repeating a lost bid changes nothing.
    for stage in (*STAGES, None) if modulus > LONG_TABLE_SLOTS else (None,):
        bidders = [each for each in range(len(drawn)) if room[each] or (round_ups and may_round_up[each])]
        weights_left = [drawn[each][2] for each in bidders]
        preferences = [
            _preferences(identities[index], modulus, _turns(stage, weight * len(drawn) / total, modulus))
            for _, index, weight in (drawn[each] for each in bidders)
        ]
        for endpoint, slot in _bids(bidders, preferences, weights_left, modulus):
            if owner[slot] >= 0:
                continue
            if room[endpoint]:
                room[endpoint] -= 1
            elif round_ups and may_round_up[endpoint]:
                may_round_up[endpoint] = False
                round_ups -= 1
            else:
                continue
            owner[slot] = drawn[endpoint][1]
            free -= 1
            if not free:
                return tuple(owner)
    raise AssertionError("not every slot has an owner after all bids")


def _turns(stage: int | None, weight: float, modulus: int) -> int:
    """How many turns an endpoint has in a stage. `weight`: as a multiple of the average.

    Halved or doubled as often as it takes, so that it seldom changes when other endpoints do.
    """
    if stage is None:
        return modulus
    return min(modulus, max(FEWEST_TURNS, round(stage * 2.0 ** round(log2(weight)))))


def _preferences(identity: str, modulus: int, turns: int) -> Sequence[int]:
    """The slots in the order in which an endpoint prefers them: all, or about the first `turns` of them.

    A slot's score is two bytes of the endpoint's digest; lower ones come first, of equal ones the lower slot.
    """
    if turns < modulus:
        return _first_preferences(identity, modulus, turns)
    scores = unpack(f"<{modulus}H", shake_128(identity.encode()).digest(2 * modulus))
    return sorted(range(modulus), key=scores.__getitem__)


@lru_cache(maxsize=MAX_REMEMBERED_ENDPOINTS)
def _first_preferences(identity: str, modulus: int, turns: int) -> Sequence[int]:
    digest = shake_128(identity.encode()).digest(2 * modulus)
    low, high = digest[::2], digest[1::2]
    # To search the high bytes for low numbers takes a tenth of the time of looking at each score in turn.
    lowest = b"[\\x00-%b]" % re.escape(bytes([(turns * 256 - 1) // modulus]))
    found = [match.start() for match in re.finditer(lowest, high, re.DOTALL)]
    return array("H", sorted(found, key=lambda slot: high[slot] << 8 | low[slot]))


def _bids(
    bidders: list[int], preferences: Sequence[Sequence[int]], weights: list[int], modulus: int
) -> Iterable[tuple[int, int]]:
    """(endpoint, slot) in the order of the turns: weight w has its turn k = 0, 1, ... at time k / w.

    They end with the first endpoint that has more preferences than those given.
    """
    if min(weights) == max(weights):
        return zip(cycle(bidders), chain.from_iterable(zip(*preferences, strict=False)), strict=False)
    times, bids = list[float](), list[tuple[int, int]]()
    for bidder, slots, weight in zip(bidders, preferences, weights, strict=True):
        times += map(truediv, range(len(slots)), repeat(weight))
        bids += zip(repeat(bidder), slots)
    cut = (len(slots) / weight for slots, weight in zip(preferences, weights, strict=True) if len(slots) < modulus)
    end = min(cut, default=inf)
    order = sorted(range(len(times)), key=times.__getitem__)
    return (bids[turn] for turn in takewhile(lambda turn: times[turn] < end, order))
