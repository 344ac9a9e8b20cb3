"""Why a client is not moored, or not where a person wants it: messages for Moorings, complaints for conditions."""

from collections.abc import Iterator, Sequence

from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.show import show
from moorage.core.endpoints import MAX_NAMES, listed
from moorage.core.groups import Group
from moorage.core.loads import Loads
from moorage.core.model import Complaint
from moorage.core.mooring_model import ClientKey
from moorage.core.moorings import requested
from moorage.core.words import client_noun

_OTHER_KINDS = {"Pod": ("Node",), "Workload": ("Pod", "Node"), "Label": ("Pod", "Node")}
"""Clients that a group has besides those of its kind: single pods, and nodes for pods in their host's network."""

NOBODY_COUNTS = (
    "Clients are assigned once the sources have answered, and the endpoints are published and have been checked for "
    "the first time"
)
AWAITED = "Clients get an endpoint once each has been checked for the first time, or some seconds have passed"


# --- Messages of Moorings -----------------------------------------------------------------------------------------


def obstacle(name: str, group: Group, loads: Loads) -> str | None:
    """Why a person cannot move a client to the endpoint `name` now, as a clause; None if that is possible."""
    endpoint = group.endpoints.get(name)
    if endpoint is None or not endpoint.in_all:
        return _unknown(name, group)
    if not endpoint.keeps:
        return endpoint.lost
    if endpoint.drained and endpoint.deadline is not None:
        return f"{name} is drained, to be empty by {endpoint.drained.before}"
    if not loads.has_room(name):
        return f"{name} has {group.limit} {client_noun(group.config.client)}s, as many as its hints can name"
    return None


def message_of_edit(name: str, at: str | None, group: Group, loads: Loads) -> str:
    """For the Mooring of a client that is not at the endpoint `name`, which a person has requested."""
    stays = f"the client stays at {at}" if at else "the client is not moored"
    until = " until that changes" if name in group.names else ""
    return f"spec.endpoint: {obstacle(name, group, loads)}; {stays}{until}"


def message_of_absent(mooring: Mooring, group: Group) -> str | None:
    """For the Mooring of a client that does not exist: only a mistake that its author should correct."""
    kind, client = mooring.spec.client.kind, group.config.client
    if mooring.status.endpoint is None and kind not in (client, *_OTHER_KINDS.get(client, ())):
        return (
            f"spec.client.kind: the clients of this group are {client_noun(client)}s, so this Mooring has no effect"
        )
    wanted = requested(mooring)
    return None if wanted is None or wanted in group.names else f"spec.endpoint: {_unknown(wanted, group)}"


def message_without_members(mooring: Mooring) -> str | None:
    """For a Mooring of a group that has no ExternalService. If it has a record, its client was moored before."""
    if mooring.status.endpoint is not None:
        return mooring.status.message
    return f"spec.group: no ExternalService with sessionAffinity Mooring is in group {show(mooring.spec.group)}"


def message_of_surplus(other: Mooring) -> str:
    """For a further Mooring of a client that has `other`."""
    return (
        f"spec.client: Mooring {other.metadata.name} of the same client is in effect, and this one is not; edit that "
        "one, and delete this one"
    )


def _unknown(name: str, group: Group) -> str:
    names = group.names
    there = f"there are {listed(names)}" if len(names) > 1 else f"there is {names[0]}" if names else "there are none"
    return f"there is no endpoint {show(name)}; {there}"


# --- Complaints ---------------------------------------------------------------------------------------------------


def complaints(
    group: Group,
    unassigned: Sequence[ClientKey],
    lost: Sequence[ClientKey],
    over: Sequence[ClientKey],
    messages: Sequence[tuple[str, str]],
) -> Iterator[Complaint]:
    """What is not as it should be in a group.

    `unassigned` are clients without an endpoint, `lost` those at an endpoint that does not keep them, `over` those
    that are too many at their endpoint; `messages` are names of Moorings and their messages.
    """
    yield from group.problems
    what = f"{client_noun(group.config.client)}s"
    taking = sum(each.takes for each in group.endpoints.values())
    unserved = [*unassigned, *lost, *over]
    if group.limit and taking and unserved:
        other = "Use client Zone or spec.proxy moorage" if what == "nodes" else "Use spec.proxy moorage"
        yield Complaint(
            f"TooMany{what.capitalize()}",
            f"spec.sessionAffinityConfig.mooring.client: {len(unserved)} {what} have no endpoint of their own and "
            f"use any: {_names(unserved)}. {taking} of {len(group.endpoints)} endpoints take new clients, and hints "
            f"name at most {group.limit} {what} for each. {other}, or add endpoints",
        )
    elif unassigned or lost:
        parts = [f"these {what} are not moored: {_names(unassigned)}"] if unassigned else []
        parts += [f"these {what} stay where nothing serves them: {_names(lost)}"] if lost else []
        none = f"None of {len(group.endpoints)} endpoints takes new clients"
        yield Complaint("NoEndpointTakes", f"{none}, so {'; '.join(parts)}")
    for name, message in messages[:MAX_NAMES]:
        yield Complaint("MooringNotFollowed", f"Mooring {name}: {message}")


def _names(keys: Sequence[ClientKey]) -> str:
    return listed([show(each.name) for each in keys])
