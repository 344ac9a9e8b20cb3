"""Which endpoint is in which slice."""

from hypothesis import given
from hypothesis import strategies as st

from moorage.api.discovery_v1 import EndpointPort
from moorage.core.packing import MAX_ENDPOINTS_PER_SLICE, Packing, SliceContents, SliceKey, pack

HTTP = SliceKey("IPv4", (EndpointPort(name="http", protocol="TCP", port=80),))
OTHER = SliceKey("IPv4", (EndpointPort(name="http", protocol="TCP", port=8080),))
THIRD = SliceKey("IPv4", (EndpointPort(name="http", protocol="TCP", port=9090),))
IPV6 = SliceKey("IPv6", HTTP.ports)
KEYS = (HTTP, OTHER, THIRD, IPV6)


def names(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"b{number:03}" for number in range(first, last + 1))


def wanted(*contents: SliceContents) -> dict[str, SliceKey]:
    return {name: each.key for each in contents for name in each.names}


def as_it_is(*existing: SliceContents) -> Packing:
    return Packing(existing, (), frozenset())


def test_what_is_right_stays() -> None:
    existing = SliceContents(HTTP, ("b2", "b1", "b3")), SliceContents(IPV6, ("b4",))
    assert pack(wanted(*existing), existing) == as_it_is(*existing)


def test_the_first_endpoints_fill_slices_of_a_hundred() -> None:
    packing = pack(dict.fromkeys(names(1, 205), HTTP), [])
    assert [len(each.names) for each in packing.new] == [100, 100, 5]


def test_each_address_type_and_each_set_of_ports_has_its_own_slices() -> None:
    packing = pack({"b1": HTTP, "b2": IPV6, "b3": OTHER, "b4": HTTP}, [])
    assert set(packing.new) == {
        SliceContents(HTTP, ("b1", "b4")),
        SliceContents(IPV6, ("b2",)),
        SliceContents(OTHER, ("b3",)),
    }


def test_a_removed_endpoint_leaves_the_others_where_they_are() -> None:
    existing = SliceContents(HTTP, names(1, 100)), SliceContents(HTTP, names(101, 200))
    want = wanted(*existing)
    del want["b050"]
    packing = pack(want, existing)
    assert packing.kept == (SliceContents(HTTP, names(1, 49) + names(51, 100)), existing[1])
    assert packing.new == ()


def test_a_new_endpoint_takes_the_place_of_one_that_goes() -> None:
    existing = SliceContents(HTTP, names(1, 50)), SliceContents(HTTP, names(101, 150))
    want = wanted(*existing) | {"b999": HTTP}
    del want["b120"]
    packing = pack(want, existing)
    assert packing.kept == (existing[0], SliceContents(HTTP, names(101, 119) + names(121, 150) + ("b999",)))


def test_slices_with_room_are_filled_before_one_is_made() -> None:
    existing = SliceContents(HTTP, names(1, 99)), SliceContents(HTTP, names(101, 199))
    packing = pack(wanted(*existing) | dict.fromkeys(("c1", "c2", "c3"), HTTP), existing)
    assert packing.kept == (SliceContents(HTTP, (*names(1, 99), "c1")), SliceContents(HTTP, (*names(101, 199), "c2")))
    assert packing.new == (SliceContents(HTTP, ("c3",)),)


def test_a_slice_that_nothing_is_left_of_is_empty_and_slices_are_not_merged() -> None:
    existing = SliceContents(HTTP, ("b1",)), SliceContents(HTTP, ("b2",)), SliceContents(HTTP, ("b3",))
    packing = pack({"b1": HTTP, "b3": HTTP}, existing)
    assert packing == as_it_is(existing[0], SliceContents(HTTP, ()), existing[2])


def test_a_slice_all_of_whose_endpoints_get_other_ports_gets_these() -> None:
    assert pack({"b1": OTHER, "b2": OTHER}, [SliceContents(HTTP, ("b1", "b2"))]) == as_it_is(
        SliceContents(OTHER, ("b1", "b2"))
    )


def test_of_two_that_get_different_ports_one_moves() -> None:
    packing = pack({"b1": OTHER, "b2": THIRD}, [SliceContents(HTTP, ("b1", "b2"))])
    assert packing == Packing((SliceContents(OTHER, ("b1",)),), (SliceContents(THIRD, ("b2",)),), frozenset({0}))


def test_one_that_moves_goes_to_a_slice_with_room_and_a_new_one_takes_its_place() -> None:
    existing = SliceContents(HTTP, ("b1", "b2")), SliceContents(OTHER, ("b3",))
    packing = pack({"b1": HTTP, "b2": OTHER, "b3": OTHER, "c1": HTTP}, existing)
    kept = SliceContents(HTTP, ("b1", "c1")), SliceContents(OTHER, ("b3", "b2"))
    assert packing == Packing(kept, (), frozenset({0}))


def test_an_address_of_the_other_family_is_another_slice() -> None:
    packing = pack({"b1": IPV6}, [SliceContents(HTTP, ("b1",))])
    assert packing == Packing((SliceContents(HTTP, ()),), (SliceContents(IPV6, ("b1",)),), frozenset({0}))


def test_two_that_change_places_move_by_way_of_new_slices() -> None:
    """Into each other's slices they could not move without one of them being in none for a moment."""
    existing = SliceContents(HTTP, ("b1", "b2")), SliceContents(OTHER, ("b3", "b4"))
    packing = pack({"b1": OTHER, "b2": HTTP, "b3": HTTP, "b4": OTHER}, existing)
    assert packing.kept == (SliceContents(HTTP, ("b2",)), SliceContents(OTHER, ("b4",)))
    assert set(packing.new) == {SliceContents(OTHER, ("b1",)), SliceContents(HTTP, ("b3",))}
    assert packing.losing == {0, 1}


def test_cut_off_after_the_new_slices_were_made_the_rest_is_as_it_would_have_been() -> None:
    existing = SliceContents(HTTP, ("b1", "b2")), SliceContents(OTHER, ("b3", "b4"))
    want = {"b1": OTHER, "b2": HTTP, "b3": HTTP, "b4": OTHER}
    whole = pack(want, existing)
    for made in whole.new:
        (missing,) = (each for each in whole.new if each != made)
        packing = pack(want, [*existing, made])
        assert packing.kept == (*whole.kept, made)
        assert packing.new == (missing,)


def test_what_somebody_put_in_twice_stays_once() -> None:
    existing = SliceContents(HTTP, ("b1", "b1", "b2")), SliceContents(HTTP, ("b2", "b3"))
    packing = pack(dict.fromkeys(("b1", "b2", "b3"), HTTP), existing)
    assert packing.kept == (SliceContents(HTTP, ("b1", "b2")), SliceContents(HTTP, ("b3",)))


def test_a_slice_with_more_than_a_hundred_gives_the_rest_away() -> None:
    packing = pack(dict.fromkeys(names(1, 120), HTTP), [SliceContents(HTTP, names(1, 120))])
    assert packing.kept == (SliceContents(HTTP, names(1, 100)),)
    assert packing.new == (SliceContents(HTTP, names(101, 120)),)


SOME = st.sampled_from(names(1, 8))
SLICES = st.lists(st.builds(SliceContents, st.sampled_from(KEYS), st.lists(SOME, max_size=5).map(tuple)), max_size=5)


@given(st.dictionaries(SOME, st.sampled_from(KEYS)), SLICES)
def test_every_endpoint_is_once_where_it_belongs_and_in_some_slice_at_any_time(
    want: dict[str, SliceKey], existing: list[SliceContents]
) -> None:
    packing = pack(want, existing)
    placed = [(name, each.key) for each in (*packing.kept, *packing.new) for name in each.names]
    assert sorted(placed) == sorted(want.items())
    assert all(each.names and len(each.names) <= MAX_ENDPOINTS_PER_SLICE for each in packing.new)
    assert [each.key.address_type for each in packing.kept] == [each.key.address_type for each in existing]

    lasting = {name for each in existing for name in each.names} & set(want)
    now = list(existing) + list(packing.new)
    takers = [index for index in range(len(existing)) if index not in packing.losing]
    for index in takers + sorted(packing.losing):
        now[index] = packing.kept[index]
        assert lasting <= {name for each in now for name in each.names}


@given(st.dictionaries(SOME, st.sampled_from(KEYS)), SLICES)
def test_packed_once_it_stays_as_it_is(want: dict[str, SliceKey], existing: list[SliceContents]) -> None:
    packing = pack(want, existing)
    result = [each for each in (*packing.kept, *packing.new) if each.names]
    assert pack(want, result) == as_it_is(*result)
