"""What the operator and every child process send each other."""

import msgspec


class Message(msgspec.Struct, tag=True, array_like=True, frozen=True):
    """A message over a channel."""


class Ping(Message, frozen=True):
    """To a child: answer with a Pong."""

    number: int


class Pong(Message, frozen=True):
    number: int
