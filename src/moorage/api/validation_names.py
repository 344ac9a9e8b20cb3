"""Names, labels and the metadata that every object has (apimachinery's `validation` and `api/validation` packages).

The rules here and in the other `validation_*` modules read plain dicts that may hold anything anywhere. They skip
values of the wrong type, because `validation_schema` has reported them.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final

from moorage.api.show import show
from moorage.api.validation_schema import DUPLICATE, FORBIDDEN, INVALID, NOT_SUPPORTED, REQUIRED, TOO_LONG, FieldError

Check = Callable[[str], str | None]
"""Says what is wrong with a value and what to use instead; None if it is right."""

PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_MAX_ANNOTATIONS_BYTES = 256 * 1024
"""All keys and values together."""

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DNS_LABEL = re.compile(_LABEL)
_DNS_1035_LABEL = re.compile("[a-z]([-a-z0-9]*[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_QUALIFIED_PART = re.compile("([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_PORT_NAME = re.compile("[a-z0-9]+(-[a-z0-9]+)*")


# --- Reading what may be anything --------------------------------------------------------------------------------


def mapping(obj: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under `key`, with only its text keys; empty if there is none."""
    value = obj.get(key)
    return {name: item for name, item in value.items() if isinstance(name, str)} if isinstance(value, dict) else {}


def entries(obj: dict[str, Any], key: str) -> list[Any]:
    """The list under `key`; empty if there is none."""
    value = obj.get(key)
    return value if isinstance(value, list) else []


def structs(obj: dict[str, Any], key: str, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each mapping in the list under `key`, with its path."""
    for index, item in enumerate(entries(obj, key)):
        if isinstance(item, dict):
            yield f"{path}.{key}[{index}]", item


def texts(obj: dict[str, Any], key: str, path: str) -> Iterator[tuple[str, str]]:
    """Each text in the list under `key`, with its path."""
    for index, item in enumerate(entries(obj, key)):
        if isinstance(item, str):
            yield f"{path}.{key}[{index}]", item


def text(obj: dict[str, Any], key: str) -> str:
    """The text under `key`; empty if there is none: to Kubernetes both are the same."""
    value = obj.get(key)
    return value if isinstance(value, str) else ""


def number(obj: dict[str, Any], key: str) -> int | None:
    """The whole number under `key`."""
    value = obj.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


# --- Names -------------------------------------------------------------------------------------------------------


def dns_label(value: str) -> str | None:
    """RFC 1123, at most 63 characters."""
    if len(value) <= 63 and _DNS_LABEL.fullmatch(value):
        return None
    return 'is not a DNS label; use at most 63 of a-z, 0-9 and "-", with a letter or digit first and last'


def dns_1035_label(value: str) -> str | None:
    """RFC 1035, at most 63 characters: a Service's name."""
    if len(value) <= 63 and _DNS_1035_LABEL.fullmatch(value):
        return None
    return 'is not a DNS label; use at most 63 of a-z, 0-9 and "-", with a letter first and a letter or digit last'


def dns_subdomain(value: str) -> str | None:
    """RFC 1123, at most 253 characters."""
    if len(value) <= 253 and _DNS_SUBDOMAIN.fullmatch(value):
        return None
    return 'is not a DNS name; use at most 253 of a-z, 0-9, "-" and ".", with a letter or digit first and last'


def domain_name(value: str) -> str | None:
    """A fully qualified domain name of at least two labels; a trailing dot is allowed."""
    labels = value.removesuffix(".").split(".")
    if len(labels) > 1 and all(dns_label(label) is None for label in labels) and len(value) <= 254:
        return None
    return "is not a fully qualified domain name; write one such as db.example.com"


def qualified_name(value: str) -> str | None:
    """The key of a label: a name of at most 63 characters, with an optional DNS name and a slash before it."""
    prefix, slash, name = value.rpartition("/")
    if (not slash or dns_subdomain(prefix) is None) and len(name) <= 63 and _QUALIFIED_PART.fullmatch(name):
        return None
    return 'is not a qualified name; use one such as app or example.com/app, of letters, digits, "-", "_" and "."'


def label_value(value: str) -> str | None:
    """The value of a label: empty, or like the name part of a label's key."""
    if not value or (len(value) <= 63 and _QUALIFIED_PART.fullmatch(value)):
        return None
    return 'is not a label value; use at most 63 letters, digits, "-", "_" and ".", a letter or digit first and last'


def port_name(value: str) -> str | None:
    """An IANA service name (RFC 6335): what a container calls its port, and a Service its targetPort."""
    if len(value) <= 15 and _PORT_NAME.fullmatch(value) and any(letter.isalpha() for letter in value):
        return None
    return 'is not a port name; use at most 15 of a-z, 0-9 and single "-", with at least one letter'


def named(path: str, value: str, check: Check) -> Iterator[FieldError]:
    """The error of a non-empty `value` that `check` refuses; `required` deals with empty ones."""
    complaint = check(value) if value else None
    if complaint:
        yield FieldError(path, INVALID, f"{show(value)} {complaint}")


def required(path: str, value: object, advice: str) -> Iterator[FieldError]:
    """The error of a value that is empty or absent."""
    if value is None or value in ("", [], {}):
        yield FieldError(path, REQUIRED, f"missing; {advice}")


def one_of(path: str, value: str, choices: tuple[str, ...]) -> Iterator[FieldError]:
    """The error of a non-empty value that is not one of `choices`."""
    if value and value not in choices:
        yield FieldError(path, NOT_SUPPORTED, f"{show(value)} is not supported; use {_any_of(choices)}")


def _any_of(choices: tuple[str, ...]) -> str:
    return " or ".join(part for part in (", ".join(choices[:-1]), choices[-1]) if part)


def in_range(path: str, value: int | None, low: int, high: int, unit: str = "") -> Iterator[FieldError]:
    """The error of a number outside `low` to `high`, both included."""
    if value is not None and not low <= value <= high:
        yield FieldError(path, INVALID, f"{show(value)} is out of range; use {low} to {high}{unit}")


def port_number(path: str, value: int | None) -> Iterator[FieldError]:
    """The error of a number that is not a TCP or UDP port."""
    if value is not None and not 1 <= value <= 65535:
        yield FieldError(path, INVALID, f"{show(value)} is not a port; use 1 to 65535")


class Once:
    """Reports whatever is given a second time, and where it was given first."""

    def __init__(self) -> None:
        self._first: dict[object, str] = {}

    def check(self, path: str, key: object, what: str, advice: str) -> Iterator[FieldError]:
        """The error of a hashable `key`, shown as `what`, that an earlier path had, too."""
        first = self._first.setdefault(key, path)
        if first != path:
            yield FieldError(path, DUPLICATE, f"{what} is given twice, first in {first}; {advice}")


# --- Metadata ----------------------------------------------------------------------------------------------------


def labels(path: str, found: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a map of labels, or of a selector in that form."""
    for key, value in found.items():
        yield from (
            named(path, key, qualified_name) if key else iter([FieldError(path, INVALID, "empty key; name it")])
        )
        if isinstance(value, str):
            yield from named(f"{path}[{show(key)}]", value, label_value)


def metadata(obj: dict[str, Any], namespaced: bool, name_check: Check) -> Iterator[FieldError]:
    """The errors of an object's metadata. The namespace may be absent: the caller knows the default."""
    meta = mapping(obj, "metadata")
    name, prefix = text(meta, "name"), text(meta, "generateName")
    if not prefix:
        yield from required("metadata.name", name, "name the object")
    yield from named("metadata.name", name, name_check)
    # A generated name is the prefix, which may end in "-", and five characters more.
    yield from named("metadata.generateName", prefix, lambda value: name_check(value + "x"))
    namespace = text(meta, "namespace")
    if namespaced:
        yield from named("metadata.namespace", namespace, dns_label)
    elif namespace:
        yield FieldError("metadata.namespace", FORBIDDEN, "this kind has no namespace; remove the field")
    yield from labels("metadata.labels", mapping(meta, "labels"))
    yield from _annotations(mapping(meta, "annotations"))
    yield from _owners(meta)
    for path, finalizer in texts(meta, "finalizers", "metadata"):
        yield from named(path, finalizer, qualified_name)


def _annotations(found: dict[str, Any]) -> Iterator[FieldError]:
    path, size = "metadata.annotations", 0
    for key, value in found.items():
        yield from named(path, key.lower(), qualified_name) if key else iter([FieldError(path, INVALID, "empty key")])
        size += len(key) + (len(value.encode(errors="replace")) if isinstance(value, str) else 0)
    if size > _MAX_ANNOTATIONS_BYTES:
        message = f"{size} bytes of annotations are too many; use at most {_MAX_ANNOTATIONS_BYTES}"
        yield FieldError(path, TOO_LONG, message)


def _owners(meta: dict[str, Any]) -> Iterator[FieldError]:
    controllers = Once()
    for path, owner in structs(meta, "ownerReferences", "metadata"):
        for key in ("apiVersion", "kind", "name", "uid"):
            yield from required(f"{path}.{key}", text(owner, key), f"set the owner's {key}")
        if owner.get("controller") is True:
            yield from controllers.check(f"{path}.controller", True, "a controller", "only one owner may be it")
