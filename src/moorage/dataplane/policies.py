"""Policies: how an endpoint is chosen for a new connection. Each has a chain that is made on first use. Pure."""

import re
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from moorage.dataplane.model import Affinity, Balanced, ByClientIP, Moored
from moorage.dataplane.schema import PROTOCOLS


class ChainNames:
    """The names of one kind of chain. One template writes and reads them."""

    _FIELDS: ClassVar = {"seconds": r"\d+", "modulus": r"\d+", "protocol": "|".join(PROTOCOLS), "family": "[46]"}

    def __init__(self, template: str) -> None:
        """`template`: the name, with `{seconds}`, `{modulus}`, `{protocol}` and `{family}` in it."""
        self._template = template
        self._pattern = re.compile(template.format(**{n: f"(?P<{n}>{each})" for n, each in self._FIELDS.items()}))

    def write(self, **fields: str | int | None) -> str:
        """The name of the chain with these fields."""
        return self._template.format(**fields)

    def read(self, name: str) -> dict[str, str] | None:
        """The fields in a name; None for the name of another kind of chain."""
        match = self._pattern.fullmatch(name)
        return match.groupdict() if match else None


_BALANCED = ChainNames("balanced-{modulus}-{protocol}{family}")
_BY_CLIENT_IP = ChainNames("clientip-{seconds}-{modulus}-{protocol}{family}")
_MOORED = ChainNames("moored-{seconds}-{modulus}-{protocol}{family}")
_MOORED_HOLDS = ChainNames("moored-hold-{seconds}-{modulus}-{protocol}{family}")
_LEARN = ChainNames("learn-{seconds}-{protocol}{family}")
MADE_ON_USE = (_BALANCED, _BY_CLIENT_IP, _MOORED, _MOORED_HOLDS, _LEARN)


def is_made_on_use(chain: str) -> bool:
    """Whether it is a chain that units need, and not one of the base ruleset."""
    return any(each.read(chain) is not None for each in MADE_ON_USE)


class Policy(NamedTuple):
    """How an endpoint is chosen for a new connection: one chain for all units with the same policy."""

    family: int
    protocol: str
    affinity: Affinity
    modulus: int
    """Slots of the unit's table."""

    @property
    def chain(self) -> str:
        """The chain that chooses."""
        match self.affinity:
            case Balanced():
                kind = _BALANCED
            case ByClientIP():
                kind = _BY_CLIENT_IP
            case Moored(holds=holds):
                kind = _MOORED_HOLDS if holds else _MOORED
        return kind.write(
            seconds=self.affinity.session_seconds, modulus=self.modulus, protocol=self.protocol, family=self.family
        )

    @property
    def learn_chain(self) -> str:
        """The chain that learns sessions."""
        return _LEARN.write(seconds=self.affinity.session_seconds, protocol=self.protocol, family=self.family)

    @classmethod
    def of_chain(cls, name: str) -> "Policy | None":
        """The policy whose chain has this name; None if it is not the chain of a policy."""
        affinities: dict[ChainNames, Callable[[int], Affinity]] = {
            _BALANCED: lambda _: Balanced(),
            _BY_CLIENT_IP: ByClientIP,
            _MOORED: Moored,
            _MOORED_HOLDS: lambda seconds: Moored(seconds, holds=True),
        }
        for kind, affinity in affinities.items():
            if found := kind.read(name):
                made = affinity(int(found.get("seconds", 0)))
                return cls(int(found["family"]), found["protocol"], made, int(found["modulus"]))
        return None
