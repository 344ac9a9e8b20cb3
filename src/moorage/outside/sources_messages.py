"""What the operator and the child process for sources tell each other."""

from collections.abc import Mapping, Sequence

import msgspec

from moorage.api.moorage_v1alpha1 import EndpointSource, ExternalServicePort
from moorage.core.model import Problem
from moorage.discovery.choice import Families
from moorage.discovery.secrets import SecretKey
from moorage.discovery.source import State
from moorage.outside.messages import Message, Ping, Pong


class Follow(Message, frozen=True):
    """To the sources: follow one entry of `spec.endpoints`; of one that is followed, take `ports` and `failing`."""

    number: int
    """By which its states are told."""
    namespace: str
    label: str
    """For the log."""
    entry: EndpointSource
    families: Families
    ports: Sequence[ExternalServicePort]
    failing: Mapping[str, str]
    """Endpoints that fail their checks, each with the address at which it does."""
    known: Mapping[str, str]
    """Addresses of its endpoints by name, to keep to."""


class Unfollow(Message, frozen=True):
    number: int


class SecretContent(msgspec.Struct, array_like=True, frozen=True):
    uid: str | None
    version: str | None
    data: dict[str, str]
    """Base64. Of all keys but the one that was asked for only the names."""


class SecretIs(Message, frozen=True):
    """To the sources: what is known of this key of a Secret."""

    key: SecretKey
    content: SecretContent | None
    problem: Problem | None


class SecretUnused(Message, frozen=True):
    key: SecretKey


class GateIs(Message, frozen=True):
    """To the sources: the ranges of the gate, in CIDR, each with what it is."""

    allowed: list[tuple[str, str]]
    refused: list[tuple[str, str]]


class OwnAddresses(Message, frozen=True):
    """To the sources: what these addresses of this cluster are; None: nothing any more."""

    what: dict[str, str | None]


class Knows(Message, frozen=True):
    """From the sources: what one of them knows now."""

    number: int
    state: State


ToSources = Ping | GateIs | OwnAddresses | SecretIs | SecretUnused | Follow | Unfollow
FromSources = Pong | Knows
