"""Slot tables: which of the M slots of a service leads to which endpoint.

The kernel picks a slot in [0, M) for every new connection, by a hash of the client's address (sticky) or at random
(balanced), and looks the endpoint up under (service, first slot of M + slot). Both expressions of nftables scale the
number to M by multiplication (`reciprocal_scale`), so every slot is an equal share of the clients.

Everything here is pure, with exact integer arithmetic or correctly rounded division, so every node computes the same
table from the same endpoints. docs/slots.md compares ways to fill a table.
"""

from collections.abc import Iterable, Sequence
from hashlib import shake_128
from heapq import merge
from itertools import chain, count, cycle, repeat, takewhile
from math import gcd, inf
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

LONG_TABLE_SLOTS, FIRST_TURNS = 500, 64
"""In tables with more than LONG_TABLE_SLOTS slots, this many turns of each endpoint are computed first: after them,
64 of 1,000 endpoints still have room."""


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
        (shake_128(identity.encode()).digest(2 * modulus), index, weight)
        for index, (identity, weight) in enumerate(zip(identities, weights, strict=True))
    )
    total = sum(weights)
    room = [modulus * weight // total for _, _, weight in drawn]
    may_round_up = [modulus * weight % total > 0 for _, _, weight in drawn]
    round_ups = modulus - sum(room)

    owner = [-1] * modulus
    free = modulus
    # Nearly all slots find their owner in the first turns; later ones are computed only for endpoints that still have
    # room. Repeating a lost bid changes nothing.
    for turns in (FIRST_TURNS, modulus) if modulus > LONG_TABLE_SLOTS else (modulus,):
        bidders = [each for each in range(len(drawn)) if room[each] or (round_ups and may_round_up[each])]
        preferences = _preferences([drawn[each][0] for each in bidders], modulus, turns)
        weights_left = [drawn[each][2] for each in bidders]
        for endpoint, slot in _bids(bidders, preferences, weights_left, beginnings=turns < modulus):
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


def _preferences(digests: Iterable[bytes], modulus: int, turns: int) -> list[list[int]]:
    """The slots in the order in which each endpoint prefers them: all, or about the first `turns` of them."""
    slots, scores = list(range(modulus)), f"<{modulus}H"
    if turns == modulus:
        return [sorted(slots, key=unpack(scores, digest).__getitem__) for digest in digests]
    highest = (turns << 16) // modulus
    return [
        sorted([slot for slot in slots if score[slot] < highest], key=score.__getitem__)
        for score in (unpack(scores, digest) for digest in digests)
    ]


def _bids(
    bidders: list[int], preferences: list[list[int]], weights: list[int], *, beginnings: bool
) -> Iterable[tuple[int, int]]:
    """(endpoint, slot) in the order of the turns: weight w has its turn k = 0, 1, ... at time k / w.

    `beginnings`: there are more preferences than those given, so the bids end with the first endpoint that has no
    more.
    """
    if min(weights) == max(weights):
        return zip(cycle(bidders), chain.from_iterable(zip(*preferences, strict=False)), strict=False)
    timed = (
        zip(map(truediv, count(), repeat(weight)), repeat(bidder), slots, strict=False)
        for bidder, slots, weight in zip(bidders, preferences, weights, strict=True)
    )
    end = min(map(truediv, map(len, preferences), weights)) if beginnings else inf
    return ((bidder, slot) for _, bidder, slot in takewhile(lambda turn: turn[0] < end, merge(*timed)))
