"""Slot tables: which of a service's M slots leads to which endpoint.

The kernel picks a slot in [0, M) for every new connection, by a hash of the client's address (sticky) or at random
(balanced), and looks the endpoint up under (service, first slot of M + slot). Both expressions of nftables scale the
number to M by multiplication (`reciprocal_scale`), so every slot is an equal share of the clients.

Everything here is pure, and exact integer arithmetic or correctly rounded division: every node computes the same
table from the same endpoints. docs/slots.md compares the ways to fill a table.
"""

from collections.abc import Iterable, Sequence
from hashlib import shake_128
from heapq import merge
from itertools import chain, count, cycle, repeat
from math import gcd
from operator import truediv
from struct import unpack

LARGEST = 4096
"""Slots of the largest table. A policy chain exists per M in use, and nft takes 2.4 KB of memory per element."""

STICKY = (24, 60, 120, 240, 480, 960, 1920, LARGEST)
"""Sizes of sticky tables: many divisors, so that common endpoint counts share them evenly, and steps of about two."""

STICKY_SLOTS_PER_ENDPOINT = 4
"""Fewer would let one endpoint get more than 5/4 of another's clients; more would cost elements."""

EXACT = 256
"""Slots that any balanced service may have in order to follow its weights exactly."""


def modulus(weights: Sequence[int], sticky: bool) -> int:
    """M, the number of slots of a service whose endpoints have these weights (each at least 1).

    Balanced: the smallest M that follows the weights exactly; where that would be large, one that follows them to
    within one slot. Sticky: a size from a ladder that has at least four slots for the lightest endpoint, so that
    most changes of the endpoints keep M, because another M gives most clients another first choice.
    Raises ValueError if there are no weights or one is below 1.
    """
    if not weights or min(weights) < 1:
        raise ValueError(f"weights must be at least one number, each at least 1: {list(weights)}")
    endpoints, total = len(weights), sum(weights)
    if endpoints == 1:
        return 1
    lightest = -(-total // min(weights))  # endpoints there would be if all were as light as the lightest
    if sticky:
        return next((size for size in STICKY if size >= STICKY_SLOTS_PER_ENDPOINT * lightest), LARGEST)
    return min(total // gcd(*weights), max(EXACT, 4 * endpoints, lightest), LARGEST)


def first_slot(modulus: int) -> int:
    """Number of the first slot of a table of M slots: M * (M - 1) / 2, so that tables of different M share none."""
    return modulus * (modulus - 1) // 2


def table(identities: Sequence[str], weights: Sequence[int], modulus: int) -> tuple[int, ...]:
    """For each slot in [0, modulus), the index in `identities` of the endpoint that it leads to.

    Depends on the set of (identity, weight) pairs only, not on their order. An endpoint has its exact share of the
    slots, modulus * weight / total, rounded down or up; with equal weights the counts differ by at most one.

    Each endpoint prefers the slots in an order of its own, a permutation drawn from its identity. In turn k each
    bids for its k-th preference and gets it if nobody has it and the endpoint has room. A heavier endpoint has its
    turns more often. As in Maglev (Eisenbud et al., NSDI 2016, section 3.4), but a bid that is lost is not made up
    for in the same turn, which halves what an added or removed endpoint changes for the others.

    Raises ValueError if an identity occurs twice or has no weight.
    """
    if len(set(identities)) != len(identities):
        raise ValueError(f"identities of endpoints must differ: {sorted(identities)}")
    drawn = sorted(
        (shake_128(identity.encode()).digest(2 * modulus), index, weight)
        for index, (identity, weight) in enumerate(zip(identities, weights, strict=True))
    )
    slots = list(range(modulus))
    scores = f"<{modulus}H"
    preferences = [sorted(slots, key=unpack(scores, digest).__getitem__) for digest, _, _ in drawn]

    total = sum(weights)
    room = [modulus * weight // total for _, _, weight in drawn]
    may_round_up = [modulus * weight % total > 0 for _, _, weight in drawn]
    round_ups = modulus - sum(room)

    owner = [-1] * modulus
    free = modulus
    for endpoint, slot in _bids(preferences, [weight for _, _, weight in drawn]):
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
            break
    return tuple(owner)


def _bids(preferences: list[list[int]], weights: list[int]) -> Iterable[tuple[int, int]]:
    """(endpoint, slot) in the order of the turns: weight w has its turn k = 0, 1, ... at time k / w."""
    if min(weights) == max(weights):
        return zip(cycle(range(len(preferences))), chain.from_iterable(zip(*preferences, strict=True)), strict=False)
    timed = (
        zip(map(truediv, count(), repeat(weight)), repeat(endpoint), slots, strict=False)
        for endpoint, (weight, slots) in enumerate(zip(weights, preferences, strict=True))
    )
    return ((endpoint, slot) for _, endpoint, slot in merge(*timed))
