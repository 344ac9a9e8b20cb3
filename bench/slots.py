"""Compares ways to fill a slot table, and prints the tables of docs/slots.md as markdown.

    python bench/slots.py

Every contender is a pure function of the endpoints' identities and M. What is used is `moorage.dataplane.slots`;
the others live only here. Takes about two minutes.
"""

import random
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from hashlib import shake_128
from statistics import mean

from moorage.dataplane.slots import modulus, table

Table = list[int]
Contender = Callable[[list[str], int], Table]

COUNTS = (2, 3, 5, 7, 10, 15, 20, 30, 50, 100)
OPTIMAL_UP_TO = 15  # endpoints: the assignment takes time cubic in the slots


def scores(identity: str, size: int) -> tuple[int, ...]:
    return struct.unpack(f"<{size}H", shake_128(identity.encode()).digest(2 * size))


class Capacity:
    """Gives out slots so that the counts of equal endpoints differ by at most one."""

    def __init__(self, endpoints: int, size: int) -> None:
        share, self.round_ups = divmod(size, endpoints)
        self.room = [share] * endpoints

    def open(self, endpoint: int) -> bool:
        return self.room[endpoint] > 0 or (self.room[endpoint] == 0 and self.round_ups > 0)

    def take(self, endpoint: int) -> bool:
        if not self.open(endpoint):
            return False
        self.round_ups -= self.room[endpoint] == 0
        self.room[endpoint] -= 1
        return True


def chosen(identities: list[str], size: int) -> Table:
    return list(table(identities, [1] * len(identities), size))


def rendezvous(identities: list[str], size: int) -> Table:
    """Highest score wins, without a bound: nothing moves that need not, but nothing is balanced."""
    columns = zip(*(scores(name, size) for name in identities), strict=True)
    return [column.index(max(column)) for column in columns]


def rendezvous_by_slot(identities: list[str], size: int) -> Table:
    """Bounded-load rendezvous: slot after slot, each takes its best endpoint that has room."""
    capacity = Capacity(len(identities), size)
    owner = []
    for column in zip(*(scores(name, size) for name in identities), strict=True):
        ranked = sorted(range(len(identities)), key=column.__getitem__, reverse=True)
        owner.append(next(endpoint for endpoint in ranked if capacity.take(endpoint)))
    return owner


def rendezvous_by_score(identities: list[str], size: int) -> Table:
    """Bounded-load rendezvous: all (slot, endpoint) pairs by score. This is the stable matching of the two."""
    pairs = ((score, slot, e) for e, name in enumerate(identities) for slot, score in enumerate(scores(name, size)))
    return first_come(len(identities), size, ((e, slot) for _, slot, e in sorted(pairs, reverse=True)))


def rendezvous_by_rank(identities: list[str], size: int) -> Table:
    """Bounded-load rendezvous: all first choices of slots by score, then the second choices of those left, ..."""
    rows = [scores(name, size) for name in identities]
    ranked = [sorted(range(len(rows)), key=column.__getitem__, reverse=True) for column in zip(*rows, strict=True)]
    pairs = sorted(
        (rank, -rows[endpoint][slot], slot, endpoint)
        for slot, endpoints in enumerate(ranked)
        for rank, endpoint in enumerate(endpoints)
    )
    return first_come(len(identities), size, ((endpoint, slot) for _, _, slot, endpoint in pairs))


def first_come(endpoints: int, size: int, bids: Iterable[tuple[int, int]]) -> Table:
    capacity = Capacity(endpoints, size)
    owner = [-1] * size
    for endpoint, slot in bids:
        if owner[slot] < 0 and capacity.take(endpoint):
            owner[slot] = endpoint
    return owner


def prime(least: int) -> int:
    while any(least % divisor == 0 for divisor in range(2, int(least**0.5) + 1)):
        least += 1
    return least


def maglev(identities: list[str], size: int) -> Table:
    """Maglev (Eisenbud et al., NSDI 2016, 3.4). M must be prime there: the next prime's permutations, cut to M."""
    cycle = prime(size)

    def preferences(digest: bytes) -> Iterator[int]:
        offset, skip = int.from_bytes(digest[:8]) % cycle, 1 + int.from_bytes(digest[8:]) % (cycle - 1)
        return (slot for turn in range(cycle) if (slot := (offset + turn * skip) % cycle) < size)

    drawn = sorted((shake_128(name.encode()).digest(16), index) for index, name in enumerate(identities))
    return maglev_turns([preferences(digest) for digest, _ in drawn], [index for _, index in drawn], size)


def maglev_drawn(identities: list[str], size: int) -> Table:
    """Maglev with permutations drawn from all of them, as the chosen one has them."""
    drawn = sorted((shake_128(name.encode()).digest(2 * size), index) for index, name in enumerate(identities))
    rows = [struct.unpack(f"<{size}H", digest) for digest, _ in drawn]
    preferences = [iter(sorted(range(size), key=row.__getitem__)) for row in rows]
    return maglev_turns(preferences, [index for _, index in drawn], size)


def maglev_turns(preferences: list[Iterator[int]], names: list[int], size: int) -> Table:
    owner = [-1] * size
    for taken in range(size):
        endpoint = taken % len(names)
        owner[next(slot for slot in preferences[endpoint] if owner[slot] < 0)] = names[endpoint]
    return owner


def one_by_one(identities: list[str], size: int) -> Table:
    """Endpoints join in the order of their hashes, each taking the fewest slots that balance allows."""
    drawn = sorted((shake_128(name.encode()).digest(2 * size), index) for index, name in enumerate(identities))
    owner = [drawn[0][1]] * size
    for joined, (digest, index) in enumerate(drawn[1:], 2):
        share = size // joined
        counts = {present: owner.count(present) for _, present in drawn[: joined - 1]}
        wanted = sorted(range(size), key=struct.unpack(f"<{size}H", digest).__getitem__)
        taken = 0
        for limit in (share + 1, share):
            for slot in wanted:
                holder = owner[slot]
                if holder != index and counts[holder] > limit and (taken < share or limit == share + 1):
                    counts[holder] -= 1
                    owner[slot] = index
                    taken += 1
    return owner


def doubled(identities: list[str], size: int) -> Table:
    """As the chosen one, but a table of 2M starts from that of M: both halves of a slot keep its endpoint."""
    if size <= 30 or size % 2:
        return chosen(identities, size)
    before = doubled(identities, size // 2)
    drawn = sorted((shake_128(name.encode()).digest(2 * size), index) for index, name in enumerate(identities))
    rows = [struct.unpack(f"<{size}H", digest) for digest, _ in drawn]
    preferences = [sorted(range(size), key=row.__getitem__) for row in rows]
    bids = [(drawn[e][1], slot) for turn in zip(*preferences, strict=True) for e, slot in enumerate(turn)]
    return first_come(len(drawn), size, [bid for bid in bids if before[bid[1] // 2] == bid[0]] + bids)


def optimal(identities: list[str], size: int) -> Table:
    """The balanced table with the greatest sum of scores (Hungarian method), as a mark for what scores can do.

    Rows are the places at endpoints, columns the slots; where M is not a multiple of the endpoints, empty slots
    that only a round-up place may take fill the square.
    """
    share, rest = divmod(size, len(identities))
    width = share + (rest > 0)
    rows = [scores(name, size) for name in identities]
    empty = width * len(rows) - size
    never = 1 << 30
    cost = [
        [65535 - score for score in row] + [0 if rest and place == share else never] * empty
        for row in rows
        for place in range(width)
    ]
    count = size + empty
    u, v, match = [0] * (count + 1), [0] * (count + 1), [0] * (count + 1)
    for row in range(1, count + 1):
        match[0], column = row, 0
        slack, path, seen = [never << 8] * (count + 1), [0] * (count + 1), [False] * (count + 1)
        while match[column]:
            seen[column] = True
            at, line, delta, following = match[column], cost[match[column] - 1], never << 8, 0
            for other in range(1, count + 1):
                if not seen[other]:
                    if (reduced := line[other - 1] - u[at] - v[other]) < slack[other]:
                        slack[other], path[other] = reduced, column
                    if slack[other] < delta:
                        delta, following = slack[other], other
            for other in range(count + 1):
                if seen[other]:
                    u[match[other]] += delta
                    v[other] -= delta
                else:
                    slack[other] -= delta
            column = following
        while column:
            match[column] = match[path[column]]
            column = path[column]
    return [(match[slot + 1] - 1) // width for slot in range(size)]


CONTENDERS: dict[str, Contender] = {
    "**turns (chosen)**": chosen,
    "rendezvous, slot by slot": rendezvous_by_slot,
    "rendezvous, by score": rendezvous_by_score,
    "rendezvous, by rank": rendezvous_by_rank,
    "rendezvous, best sum": optimal,
    "Maglev": maglev,
    "Maglev, drawn permutations": maglev_drawn,
    "one by one": one_by_one,
    "turns, from the table of M/2": doubled,
    "rendezvous, no bound": rendezvous,
}


def addresses(count: int, rng: random.Random) -> list[str]:
    return [f"10.{a >> 16}.{a >> 8 & 255}.{a & 255}:80" for a in rng.sample(range(1 << 24), count)]


def disruption(fill: Contender, endpoints: int, size: int) -> tuple[float, float]:
    """Percent of the survivors' slots that a removal moves (the least is 0 for all), and mean of max/min slots.

    An addition is the same pair of tables read the other way: as many slots move between endpoints that were there
    before, beside those that the new one gets.
    """
    moved = total = 0
    ratios = []
    for seed in range(max(6, 200 // endpoints)):
        names = addresses(endpoints, random.Random(seed))
        before = fill(names, size)
        counts = [before.count(endpoint) for endpoint in range(endpoints)]
        ratios.append(max(counts) / max(min(counts), 1))
        for leaver in range(min(endpoints, 5)):
            after = fill(names[:leaver] + names[leaver + 1 :], size)
            pairs = [(a, b + (b >= leaver)) for a, b in zip(before, after, strict=True) if a != leaver]
            moved += sum(a != b for a, b in pairs)
            total += len(pairs)
    return 100 * moved / total, mean(ratios)


def crossing(fill: Contender, endpoints: int) -> float:
    """Percent of clients whose first choice survives one more endpoint where that changes M."""
    before, after = modulus([1] * endpoints, True), modulus([1] * (endpoints + 1), True)
    clients = 2000
    kept = []
    for seed in range(20):
        names = addresses(endpoints + 1, random.Random(seed))
        old, new = fill(names[:-1], before), fill(names, after)
        kept += [old[c * before // clients] == new[c * after // clients] for c in range(clients)]
    return float(100 * mean(kept))


def seconds(fill: Contender, endpoints: int, services: int) -> float:
    size = modulus([1] * endpoints, True)
    rng = random.Random(1)
    sets = [addresses(endpoints, rng) for _ in range(services)]
    start = time.perf_counter()
    for names in sets:
        fill(names, size)
    return time.perf_counter() - start


def row(*cells: object) -> None:
    print("|", " | ".join(str(cell) for cell in cells), "|")


def main() -> None:
    sizes = [modulus([1] * endpoints, True) for endpoints in COUNTS]
    results = {
        name: [
            disruption(fill, endpoints, size) if fill is not optimal or endpoints <= OPTIMAL_UP_TO else None
            for endpoints, size in zip(COUNTS, sizes, strict=True)
        ]
        for name, fill in CONTENDERS.items()
    }
    print("Survivors' slots moved by one removal or addition, in percent (least possible: 0)\n")
    row("endpoints", *COUNTS)
    row("---", *["---:"] * len(COUNTS))
    row("M = elements per service", *sizes)
    row("slots of the one that goes, %", *(f"{100 / endpoints:.1f}" for endpoints in COUNTS))
    for name, found in results.items():
        row(name, *(f"{one[0]:.1f}" if one else "" for one in found))
    print("\nMost slots of an endpoint to fewest, mean\n")
    row("endpoints", *COUNTS)
    row("---", *["---:"] * len(COUNTS))
    for name in ("**turns (chosen)**", "rendezvous, no bound"):
        row(name, *(f"{one[1]:.2f}" if one else "" for one in results[name]))
    bounded = [found for name, found in results.items() if name != "rendezvous, no bound"]
    row(
        "all others", *(f"{mean(one[1] for found in bounded if (one := found[at])):.2f}" for at in range(len(COUNTS)))
    )
    print("\nTime to fill, and first choices kept where one more endpoint changes M\n")
    row("", "10,000 x 10 endpoints, s", "1 x 1,000 endpoints, s", "kept 6 to 7, %", "kept 15 to 16, %")
    row("---", *["---:"] * 4)
    for name, fill in CONTENDERS.items():
        small = (
            f"{seconds(fill, 10, 1000) * 10:.2f}" if fill is not optimal else f"{seconds(fill, 10, 10) * 1000:.0f}"
        )
        large = f"{seconds(fill, 1000, 1):.2f}" if fill is not optimal else ""
        kept = (f"{crossing(fill, n):.0f}" if fill is not optimal else "" for n in (6, 15))
        row(name, small, large, *kept)


if __name__ == "__main__":
    main()
