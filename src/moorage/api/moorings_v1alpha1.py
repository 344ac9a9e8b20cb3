"""`moorage.dev/v1alpha1`: Mooring, the assignment of one client to one endpoint.

There is no status subresource. With one, the API server drops the status from POST, and the operator's record of a
move would take a second write.
"""

from typing import Annotated

from moorage.api.meta import Object, Resource
from moorage.api.moorage_v1alpha1 import CLIENT_KINDS
from moorage.api.schema import IMMUTABLE, LABEL, NAME, doc

REASONS = ("Assigned", "FailedOver", "Drained", "Returned", "Moved")
"""Why a client is where it is."""
MAX_PAST_MOVES = 5
"""How many moves a Mooring remembers."""


class MooringClient(Resource, kw_only=True, frozen=True):
    """A client by its identity, which stays when its address changes."""

    kind: Annotated[str, doc("What kind of client.", enum=[*CLIENT_KINDS])]
    name: Annotated[
        str,
        doc(
            "Name of the pod, node, zone or namespace; of a workload kind and name, as Deployment/frontend; of a "
            "label its value.",
            minLength=1,
            maxLength=317,
        ),
    ]


class MooringSpec(Resource, kw_only=True, frozen=True):
    """Who is at which endpoint."""

    group: Annotated[str, doc("The group of ExternalServices.", LABEL, IMMUTABLE, **NAME)]
    client: Annotated[MooringClient, doc("Who is moored.", IMMUTABLE)]
    endpoint: Annotated[str, doc("Name of the endpoint; edit it to move the client.", LABEL, **NAME)]


class PastMove(Resource, kw_only=True, frozen=True):
    """A move of the client."""

    time: Annotated[str, doc("When it came to the endpoint.")]
    endpoint: Annotated[str, doc("The endpoint that it came to.")]
    reason: Annotated[str, doc("Why it did.", enum=[*REASONS])]


class MooringStatus(Resource, kw_only=True, frozen=True):
    """The operator's own record, written in one request with spec.endpoint."""

    endpoint: Annotated[
        str | None,
        doc("Where the client is. Another one than in spec: a person has edited that, and the operator follows."),
    ] = None
    since: Annotated[str | None, doc("When the client came to this endpoint.")] = None
    reason: Annotated[str | None, doc("Why it did.", enum=[*REASONS])] = None
    previous: Annotated[str | None, doc("The endpoint before; empty where there was none.")] = None
    home: Annotated[
        str | None,
        doc(
            "The endpoint that it was assigned, or moved to by a person; with onRecovery Return it comes back to it."
        ),
    ] = None
    message: Annotated[str | None, doc("Why it is not where spec.endpoint says, and what to do.")] = None
    moves: Annotated[list[PastMove] | None, doc("The last moves, the newest first.", maxItems=MAX_PAST_MOVES)] = None


class Mooring(Object, kw_only=True, frozen=True):
    """The assignment of one client to one endpoint of a group."""

    spec: Annotated[MooringSpec, doc("Who is at which endpoint.")]
    status: Annotated[MooringStatus, doc("What the operator has recorded of it.")] = MooringStatus()
