"""Descriptions, limits and rules of the fields of `moorage_v1alpha1`.

A rule is written twice, as CEL for the API server and as Python for the lab and for manifests, with one message.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import Meta

from moorage.api.addresses import parse
from moorage.errors import MoorageError


class Rule(NamedTuple):
    """A condition that a schema cannot express, or not in words that a person understands."""

    cel: str
    """True if the value is right; `self` is the value (https://kubernetes.io/docs/reference/using-api/cel/)."""
    message: str
    """What is wrong and what to do."""
    holds: Callable[[Any], bool]
    """The same as `cel`, given the value: text, or the struct if the rule is about a struct."""
    field: str = ""
    """The field that the message is about, such as `.sessionAffinity`; empty: the value itself."""


def doc(description: str, *rules: Rule, required: bool = False, **schema: Any) -> Meta:
    """The description and the rules of a field; `schema` holds keywords of OpenAPI v3.

    `required`: an object without the field is refused, although the struct has a default for it.
    """
    return Meta(
        description=description, extra_json_schema=schema or None, extra={"rules": rules, "required": required}
    )


PORT = {"minimum": 1, "maximum": 65535}
NAME = {"minLength": 1, "maxLength": 63}
"""Keywords for a port number, and for a name that is a DNS label."""


def list_map(*keys: str) -> dict[str, Any]:
    """A list whose items are identified by these fields: none may repeat, and server-side apply merges by them."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def matching(pattern: str, message: str) -> Rule:
    """A text that must match as a whole. `pattern` means the same in RE2 and in `re`, and has no quotes."""
    compiled = re.compile(pattern)
    return Rule(f"self.matches(r'^({pattern})$')", message, lambda text: compiled.fullmatch(text) is not None)


def _is_ip(text: str) -> bool:
    try:
        parse(text)
    except MoorageError:
        return False
    return True


_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = "[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9])?"
_QUALIFIED = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)"
_STATUS = "[1-5][0-9][0-9]"
_DAY = (
    "[0-9]{4}-((01|03|05|07|08|10|12)-(0[1-9]|[12][0-9]|3[01])"
    "|(04|06|09|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))"
)
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"
_PORT = "(:[0-9]{1,5})?"

LABEL = matching(_LABEL, 'must be a DNS label; use a-z, 0-9 and "-", with a letter or digit first and last')
SUBDOMAIN = matching(
    f"{_LABEL}([.]{_LABEL})*",
    'must be the name of an object; use a-z, 0-9, "-" and ".", with a letter or digit first and last',
)
SECRET_KEY = matching("[-._a-zA-Z0-9]+", 'must be a key of a Secret; use letters, digits, "-", "_" and "."')
DNS_NAME = matching(
    f"{_DNS_LABEL}([.]{_DNS_LABEL})*[.]?",
    "must be a DNS name such as db.example.com, of labels of at most 63 characters; it has no port and no scheme",
)
NO_ADDRESS = Rule(
    "!isIP(self)", "must be a DNS name; list IP addresses under addresses", lambda text: not _is_ip(text)
)
ADDRESS = Rule(
    "isIP(self)",
    "must be an IPv4 or IPv6 address such as 203.0.113.11 or 2001:db8::11, without leading zeros, port or zone; "
    "use dns for a name",
    _is_ip,
)
HOST = matching(
    f"[-a-zA-Z0-9_.]+{_PORT}|\\[[0-9a-fA-F:.]+\\]{_PORT}",
    "must be a host, or host:port, such as db.example.com or db.example.com:8443; it has no scheme and no path",
)
SERVER_NAME = Rule(
    f"isIP(self) || self.matches('^({_DNS_LABEL}([.]{_DNS_LABEL})*)$')",
    "must be a DNS name such as db.example.com, or an IP address; it has no port",
    lambda text: _is_ip(text) or re.fullmatch(f"{_DNS_LABEL}([.]{_DNS_LABEL})*", text) is not None,
)
PATH = matching(
    "/[!-~]*", "must begin with / and have no spaces or letters beyond ASCII; percent-encode those, such as %20"
)
STATUS = matching(
    f"{_STATUS}(-{_STATUS})?", 'must be a status; use one from 100 to 599 such as "200", or a range such as "200-399"'
)
STATUS_ORDER = Rule(
    f"!self.matches('^{_STATUS}-{_STATUS}$') || self.substring(0, 3) <= self.substring(4)",
    "must be a range from the lower to the higher status; swap the two",
    lambda text: re.fullmatch(f"{_STATUS}-{_STATUS}", text) is None or text[:3] <= text[4:],
)
TIME = matching(
    f"{_DAY}T{_CLOCK}:[0-5][0-9]([.][0-9]{{1,9}})?(Z|[-+]{_CLOCK})",
    "must be a time; write one such as 2027-01-01T00:00:00Z",
)
"""RFC 3339. Not `format: date-time`: with that, the API server accepts lists of anything (seen with 1.34)."""
QUALIFIED_NAME = matching(
    f"({_LABEL}([.]{_LABEL})*/)?{_QUALIFIED}",
    'must be a qualified name; use one such as app or example.com/app, of letters, digits, "-", "_" and "."',
)
IMMUTABLE = Rule("self == oldSelf", "must not change; delete the object, and create another", lambda _: True)
"""Its Python is in `validation_external`, because it needs the old value."""
LABEL_VALUE = matching(
    f"{_QUALIFIED}?", 'must be the value of a label; use at most 63 letters, digits, "-", "_" and "."'
)
