"""Makes names like Kubernetes does: `frontend-8b5d86d8f-29j49`."""

from collections.abc import Callable
from random import Random

import msgspec

from moorage.api.apps_v1 import PodTemplate

Suffix = Callable[[], str]
"""A source of random suffixes: five characters of `ALPHABET`."""

ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""No vowels and no 0, 1, 3, so that names do not spell words (apimachinery's `util/rand`)."""

_MAX_BASE_LENGTH = 58
"""A generated name has at most 63 characters, so that it is a valid host name (apiserver's `names.generate`)."""


def template_hash(template: PodTemplate) -> str:
    """The `pod-template-hash` of a template: FNV-1a of its JSON, its decimal digits in the safe alphabet.

    It differs from Kubernetes' own value, which hashes Go's dump of the template, but has the same form.
    """
    value = 0x811C9DC5
    for byte in msgspec.json.encode(template, order="deterministic"):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return "".join(ALPHABET[ord(digit) % len(ALPHABET)] for digit in str(value))


def random_suffix(random: Random) -> Suffix:
    """A source of suffixes from `random`."""
    return lambda: "".join(random.choices(ALPHABET, k=5))


def generated(base: str, suffix: str) -> str:
    """`base-suffix`, with `base` cut so that the whole is at most 63 characters."""
    return f"{(base + '-')[:_MAX_BASE_LENGTH]}{suffix}"
