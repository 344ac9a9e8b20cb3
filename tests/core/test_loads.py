"""How clients are counted, and where the fewest are."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from moorage.core.groups import GroupEndpoint
from moorage.core.loads import Loads
from moorage.core.mooring_model import Client, ClientKey, hash_of


def endpoint(name: str, weight: int = 1, takes: bool = True, zone: str = "") -> GroupEndpoint:
    return GroupEndpoint(name, True, takes, True, weight, zone, None, "")


def client(name: str, owner: str = "") -> Client:
    return Client(ClientKey("Pod", name), owner)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.sampled_from(["", "x", "y"])), max_size=30),
    st.sampled_from([None, 1, 3]),
)
def test_the_least_loaded_is_found_whatever_came_and_went(
    ends: list[tuple[int, bool]], changes: list[tuple[int, bool, str]], limit: int | None
) -> None:
    weights = {f"e{number}": weight for number, (weight, _) in enumerate(ends)}
    open_ = {f"e{number}" for number, (_, takes) in enumerate(ends) if takes}
    loads = Loads("g", [endpoint(name, weights[name], name in open_) for name in weights], limit)
    there: list[tuple[str, str]] = []
    for number, come, owner in changes:
        name = f"e{number % len(ends)}"
        if come:
            there.append((name, owner))
            loads.add(name, client("c", owner))
        elif (name, owner) in there:
            there.remove((name, owner))
            loads.remove(name, client("c", owner))
    count = Counter(name for name, _ in there)
    candidates = {name for name in open_ if limit is None or count[name] < limit}
    chosen = loads.least(client("new", "x"))
    if not candidates:
        assert chosen is None
        return
    assert chosen is not None
    least = min(count[name] / weights[name] for name in candidates)
    tied = {name for name in candidates if count[name] / weights[name] == least}
    owned = Counter(name for name, owner in there if owner == "x")
    assert chosen in {name for name in tied if owned[name] == min(owned[each] for each in tied)}
    assert all(loads.has_room(name) == (limit is None or count[name] < limit) for name in weights)


def test_clients_of_one_owner_are_kept_apart_where_loads_are_equal() -> None:
    loads = Loads("g", [endpoint(name) for name in "abcdef"], None)
    for name in "abcdef":
        loads.add(name, client("p", "x" if name != "d" else "y"))
    loads.add("a", client("q", "x"))
    loads.remove("a", client("r", ""))
    assert {loads.least(client(f"p{number}", "x")) for number in range(20)} == {"d"}
    assert len({loads.least(client(f"p{number}")) for number in range(40)}) == 6


def test_clients_at_what_is_no_endpoint_any_more_are_counted_and_harmless() -> None:
    loads = Loads("g", [endpoint("a")], 1)
    loads.add("gone", client("p"))
    assert (loads.has_room("gone"), loads.least(client("q"))) == (False, "a")
    loads.remove("gone", client("p"))
    assert loads.has_room("gone")


def test_a_clients_number_is_the_same_in_every_process() -> None:
    assert hash_of("backend", ClientKey("Pod", "frontend-0")) == 6205814141076370178
    assert hash_of("backend", ClientKey("Pod", "n1")) != hash_of("backend", ClientKey("Node", "n1"))
    assert hash_of("backend", ClientKey("Pod", "\ud800")) >= 0
