"""What the operator and the child process for sources send each other."""

from collections.abc import Mapping, Sequence

import msgspec

from moorage.api.moorage_v1alpha1 import ExternalServicePort
from moorage.api.sources_v1alpha1 import EndpointSource
from moorage.core.model import Problem
from moorage.discovery.choice import Families
from moorage.discovery.secrets import SecretKey
from moorage.discovery.source import State
from moorage.outside.messages import Message, Ping, Pong


class Follow(Message, frozen=True):
    """To the child: follow one entry of `spec.endpoints`, or take new `ports` and `failing` for it."""

    number: int
    """Identifies it in SourceState."""
    namespace: str
    label: str
    """For the log."""
    entry: EndpointSource
    families: Families
    ports: Sequence[ExternalServicePort]
    failing: Mapping[str, str]
    """Endpoints that fail their checks, each with the address that fails."""
    known: Mapping[str, str]
    """Addresses of its endpoints by name. It keeps them if it can."""


class Unfollow(Message, frozen=True):
    number: int


class SecretContent(msgspec.Struct, array_like=True, frozen=True):
    uid: str | None
    version: str | None
    data: dict[str, str]
    """Base64. Only the requested key has a value."""


class SetSecret(Message, frozen=True):
    """To the child: the content of this key of a Secret, or why there is no content."""

    key: SecretKey
    content: SecretContent | None
    problem: Problem | None


class RemoveSecret(Message, frozen=True):
    key: SecretKey


class SetGate(Message, frozen=True):
    """To the child: the ranges (CIDR) of the gate, each with what it is."""

    allowed: list[tuple[str, str]]
    refused: list[tuple[str, str]]


class SetOwnAddresses(Message, frozen=True):
    """To the child: what these addresses of this cluster are; None: no longer in use."""

    what: dict[str, str | None]


class SourceState(Message, frozen=True):
    """From the child: what one source has found."""

    number: int
    state: State


ToSources = Ping | SetGate | SetOwnAddresses | SetSecret | RemoveSecret | Follow | Unfollow
FromSources = Pong | SourceState
