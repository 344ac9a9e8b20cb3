"""Stable names of endpoints."""

import hashlib

MAX_LABEL_CHARACTERS = 63
"""RFC 1035."""


def of_address(address: str) -> str:
    """The name of an endpoint that has only a canonical address: `203-0-113-11`, `2001-db8--11`.

    A DNS label, as in the names that cluster DNS gives pods. A "::" at either end becomes the zero that it stands
    for.
    """
    name = address.replace(".", "-").replace(":", "-")
    return ("0" if name.startswith("-") else "") + name + ("0" if name.endswith("-") else "")


def of_dns_name(name: str) -> str:
    """The name of an endpoint that has a DNS name (the target of an SRV record): `db1-example-com`.

    A DNS label. A name that would be too long, or has characters that a label cannot have, ends in a hash.
    """
    plain = name.rstrip(".").lower()
    label = plain.replace(".", "-")
    if (
        len(label) <= MAX_LABEL_CHARACTERS
        and label.replace("-", "a").isalnum()
        and label.isascii()
        and label.strip("-") == label
    ):
        return label
    digest = hashlib.sha256(plain.encode()).hexdigest()[:10]
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in label)[: MAX_LABEL_CHARACTERS - 11].strip("-")
    return f"{kept}-{digest}" if kept else f"x-{digest}"
