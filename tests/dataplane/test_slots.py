"""Slot tables: balance, the same table everywhere, and little disruption."""

import hashlib
import os
import random
import struct
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from math import gcd

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from moorage.dataplane import slots
from moorage.dataplane.slots import MAX_SLOTS, STICKY_SIZES, first_slot, modulus, table

Endpoints = dict[str, int]  # identity -> weight

identities = st.text(max_size=20)
endpoints = st.dictionaries(identities, st.integers(1, 20), min_size=1, max_size=12)
equal = st.sets(identities, min_size=1, max_size=30)
sizes = st.integers(1, 300)


def addresses(count: int, seed: int = 0) -> list[str]:
    """That many different endpoint identities."""
    rng = random.Random(seed)
    return [f"10.{a >> 16}.{a >> 8 & 255}.{a & 255}:80" for a in rng.sample(range(1 << 24), count)]


def owners(weights: Endpoints, size: int) -> list[str]:
    names = list(weights)
    return [names[index] for index in table(names, list(weights.values()), size)]


def counts(weights: Endpoints, size: int) -> dict[str, int]:
    found = Counter(owners(weights, size))
    return {name: found[name] for name in weights}


@given(equal, sizes)
def test_equal_endpoints_have_the_same_number_of_slots_to_within_one(names: set[str], size: int) -> None:
    found = counts(dict.fromkeys(names, 1), size)
    assert sum(found.values()) == size
    assert max(found.values()) - min(found.values()) <= 1


@given(endpoints, sizes)
def test_an_endpoint_has_its_exact_share_rounded_down_or_up(weights: Endpoints, size: int) -> None:
    total = sum(weights.values())
    for name, count in counts(weights, size).items():
        assert abs(count - Fraction(size * weights[name], total)) < 1


@given(endpoints, sizes, st.randoms(use_true_random=False))
def test_the_order_of_the_endpoints_does_not_matter(weights: Endpoints, size: int, rng: random.Random) -> None:
    shuffled = list(weights.items())
    rng.shuffle(shuffled)
    assert owners(dict(shuffled), size) == owners(weights, size)


@given(endpoints, sizes, st.integers(2, 5))
def test_only_the_ratio_of_the_weights_matters(weights: Endpoints, size: int, factor: int) -> None:
    assert owners({name: weight * factor for name, weight in weights.items()}, size) == owners(weights, size)


def test_every_process_computes_the_same_table() -> None:
    program = "from moorage.dataplane.slots import table; print(table(list('abcdef'), [1, 1, 1, 2, 2, 3], 60))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert printed == {f"{table(list('abcdef'), [1, 1, 1, 2, 2, 3], 60)}\n"}


@pytest.mark.parametrize(
    ("names", "weights", "size", "expected"),
    [
        (["203.0.113.11:80"], [1], 1, "0"),
        (["203.0.113.11:80", "203.0.113.12:80"], [1, 1], 2, "10"),
        (["203.0.113.11:80", "203.0.113.12:80"], [1, 1], 24, "101011111000111010000010"),
        (["2001:db8::1:9000", "2001:db8::2:9000", "2001:db8::3:9000"], [1, 1, 1], 24, "111002112220212021000201"),
        (
            [f"10.0.0.{n}:8080" for n in range(10)],
            [1] * 10,
            60,
            "275205846875930038342118168894651210126049747754365967923903",
        ),
        (["a", "b", "c"], [1, 2, 5], 8, "21122022"),
        (["a", "b", "c"], [1, 2, 4], 60, "220221222101220111222111120002212222222212112222210222210212"),
    ],
)
def test_tables_stay_as_they_are_so_that_nodes_of_different_versions_agree(
    names: list[str], weights: list[int], size: int, expected: str
) -> None:
    assert "".join(map(str, table(names, weights, size))) == expected


@pytest.mark.parametrize(
    ("weights", "size", "expected"),
    [
        ([1] * 1000, MAX_SLOTS, "0e7427f983ffd383"),
        ([number % 10 + 1 for number in range(1000)], MAX_SLOTS, "1a044a00728df133"),
        ([1] * 299 + [50], 1000, "d6216c37b1e5700d"),
        ([1] * 120, 480, "fbe76e3169c70f10"),
    ],
)
def test_long_tables_stay_as_they_are(weights: list[int], size: int, expected: str) -> None:
    names = [f"10.0.{number >> 8}.{number & 255}:80" for number in range(len(weights))]
    assert hashlib.sha256(repr(table(names, weights, size)).encode()).hexdigest()[:16] == expected


def filled_in_one_go(names: list[str], weights: list[int], size: int) -> tuple[int, ...]:
    """The table as `table` describes it: every bid is known, and they are made one after the other."""
    digests = [hashlib.shake_128(name.encode()).digest(2 * size) for name in names]
    order = sorted(range(len(names)), key=digests.__getitem__)
    preferences = {
        each: sorted(range(size), key=struct.unpack(f"<{size}H", digests[each]).__getitem__) for each in order
    }
    bids = sorted(
        (Fraction(turn, weights[each]), place, each, slot)
        for place, each in enumerate(order)
        for turn, slot in enumerate(preferences[each])
    )
    exact = [Fraction(size * weight, sum(weights)) for weight in weights]
    ups = size - sum(int(each) for each in exact)
    owner: dict[int, int] = {}
    taken: Counter[int] = Counter()
    for _, _, each, slot in bids:
        share = int(exact[each])
        up = taken[each] == share < exact[each] and ups > 0
        if slot not in owner and (taken[each] < share or up):
            owner[slot] = each
            taken[each] += 1
            ups -= up
    return tuple(owner[slot] for slot in range(size))


@given(
    st.dictionaries(identities, st.sampled_from([1, 1, 1, 2, 3, 100]), min_size=1, max_size=12),
    st.integers(1, 60),
    st.sampled_from([(1, 2), (2, 7), (16, 30)]),
    st.sampled_from([1, 4]),
)
def test_a_table_that_is_filled_in_stages_is_the_same(
    weights: Endpoints, size: int, stages: tuple[int, ...], fewest: int
) -> None:
    names, each_weight = list(weights), list(weights.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slots, "LONG_TABLE_SLOTS", 0)
        patch.setattr(slots, "STAGES", stages)
        patch.setattr(slots, "FEWEST_TURNS", fewest)
        assert table(names, each_weight, size) == filled_in_one_go(names, each_weight, size)


@pytest.mark.parametrize("weights", [[1] * 100, [1] * 99 + [100], [1, 2] * 50])
def test_a_long_table_is_filled_in_stages(weights: list[int]) -> None:
    names = addresses(len(weights))
    assert table(names, weights, 480) == filled_in_one_go(names, weights, 480)


@pytest.mark.parametrize("weight", [1, 3])
def test_of_a_changed_service_only_what_a_new_endpoint_prefers_is_drawn(weight: int) -> None:
    *names, new = addresses(1001, seed=weight)
    weights = [1, *[weight] * 1000]
    table(names, weights[:-1], MAX_SLOTS)
    before = slots._first_preferences.cache_info().misses
    table([*names[1:], new], weights[1:], MAX_SLOTS)
    drawn = slots._first_preferences.cache_info().misses - before
    assert drawn < 50, "of 1,000: in the first stage the new one, in the second those that still have room"


def moved(weights: Endpoints, leaver: str, size: int) -> tuple[int, int]:
    """Slots of the others that change their owner when this endpoint goes (or comes), of how many."""
    before = owners(weights, size)
    after = owners({name: weight for name, weight in weights.items() if name != leaver}, size)
    kept = [(a, b) for a, b in zip(before, after, strict=True) if a != leaver]
    return sum(a != b for a, b in kept), len(kept)


@given(st.tuples(identities, identities), st.integers(1, 9), sizes)
def test_of_two_endpoints_the_one_that_stays_keeps_all_its_slots(
    pair: tuple[str, str], weight: int, size: int
) -> None:
    assume(pair[0] != pair[1])
    assert moved({pair[0]: 1, pair[1]: weight}, pair[0], size)[0] == 0


@pytest.mark.parametrize(
    ("count", "percent"),  # what was measured over many endpoint sets, and half as much again
    [(3, 7), (5, 9), (7, 7), (10, 11), (15, 13), (30, 10), (60, 10)],
)
def test_a_removal_or_addition_moves_few_slots_of_the_others(count: int, percent: int) -> None:
    size = modulus([1] * count, sticky=True)
    changed = total = 0
    for seed in range(max(5, 100 // count)):
        names = addresses(count, seed)
        for leaver in names[:4]:
            some, of = moved(dict.fromkeys(names, 1), leaver, size)
            changed, total = changed + some, total + of
    assert 100 * changed <= percent * total


def test_a_removal_moves_few_slots_of_the_others_also_when_weights_differ() -> None:
    changed = total = 0
    for seed in range(40):
        weights = dict(zip(addresses(5, seed), [1, 2, 3, 4, 5], strict=True))
        for leaver in weights:
            some, of = moved(weights, leaver, 60)
            changed, total = changed + some, total + of
    assert 100 * changed <= 8 * total


@pytest.mark.parametrize("weights", [[1] * 1000, [1] * 400 + [2] * 200])
def test_up_to_a_thousand_endpoints_have_their_shares_of_the_largest_table(weights: list[int]) -> None:
    size = modulus(weights, sticky=True)
    assert size == MAX_SLOTS
    found = counts(dict(zip(addresses(len(weights)), weights, strict=True)), size)
    for weight, count in zip(weights, found.values(), strict=True):
        assert abs(count - size * weight / sum(weights)) < 1


def test_more_endpoints_than_slots_get_at_most_one_each() -> None:
    assert sorted(counts(dict.fromkeys(addresses(5), 1), 3).values()) == [0, 0, 1, 1, 1]


def test_identities_that_are_not_unique_are_refused() -> None:
    with pytest.raises(ValueError, match="must differ"):
        table(["a", "b", "a"], [1, 1, 1], 24)


def test_an_identity_without_a_weight_is_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        table(["a", "b"], [1], 4)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40))
def test_a_balanced_table_follows_its_weights_exactly_while_that_is_small(weights: list[int]) -> None:
    exact = sum(weights) // gcd(*weights)
    assume(exact <= 256)
    size = modulus(weights, sticky=False)
    assert size == exact if len(weights) > 1 else size == 1
    found = counts({str(n): weight for n, weight in enumerate(weights)}, size)
    assert [count * sum(weights) for count in found.values()] == [size * weight for weight in weights]


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=300), st.booleans())
def test_no_table_is_larger_than_the_largest(weights: list[int], sticky: bool) -> None:
    assert 1 <= modulus(weights, sticky) <= MAX_SLOTS


@pytest.mark.parametrize("weights", [[1], [7]])
@pytest.mark.parametrize("sticky", [True, False])
def test_a_single_endpoint_needs_one_slot(weights: list[int], sticky: bool) -> None:
    assert modulus(weights, sticky) == 1


@pytest.mark.parametrize(
    ("weights", "size"),
    [([1, 1], 2), ([2, 4], 3), ([1] * 10, 10), ([1] * 1000, 1000), ([333, 667], 256), ([1, 999], 1000)],
)
def test_sizes_of_balanced_tables(weights: list[int], size: int) -> None:
    assert modulus(weights, sticky=False) == size


@pytest.mark.parametrize(
    ("weights", "size"),
    [([1, 1], 24), ([5, 5], 24), ([1] * 6, 24), ([1] * 7, 60), ([1] * 15, 60), ([1] * 16, 120), ([1, 2, 5], 60)],
)
def test_sizes_of_sticky_tables(weights: list[int], size: int) -> None:
    assert modulus(weights, sticky=True) == size


def test_sticky_tables_have_four_slots_or_more_for_each_of_a_thousand_endpoints() -> None:
    assert all(modulus([1] * count, sticky=True) >= 4 * count for count in range(2, 1001))


def test_ten_endpoints_share_a_sticky_table_evenly_within_the_budget_of_elements() -> None:
    size = modulus([1] * 10, sticky=True)
    assert size % 10 == 0
    assert 40 <= size <= 70


@pytest.mark.parametrize("weights", [[], [0], [1, -1]])
def test_weights_below_one_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        modulus(weights, sticky=True)


def test_tables_of_different_sizes_share_no_slot_numbers() -> None:
    numbers = [first_slot(size) + slot for size in (*range(1, 130), *STICKY_SIZES[3:]) for slot in range(size)]
    assert len(set(numbers)) == len(numbers)
