"""Validates ExternalService and Mooring like their CustomResourceDefinitions (`api.crds`), but without CEL.

Limits and rules are read from the types, as for the definitions.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
from msgspec import inspect

from moorage.api.external_rules import RULES
from moorage.api.meta import ObjectMeta
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring
from moorage.api.show import show
from moorage.api.validation_names import Once, dns_1035_label, dns_subdomain, mapping, metadata
from moorage.api.validation_schema import (
    INVALID,
    NOT_SUPPORTED,
    REQUIRED,
    TOO_LONG,
    TOO_MANY,
    FieldError,
    without_nulls,
)


def external_service(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of an ExternalService."""
    yield from metadata(obj, True, dns_1035_label)
    yield from _walk(obj, _info(ExternalService), "")


def mooring(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Mooring."""
    yield from metadata(obj, True, dns_subdomain)
    yield from _walk(obj, _info(Mooring), "")


def mooring_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of a Mooring: of whom it is for."""
    after, before = mapping(new, "spec"), mapping(old, "spec")
    for field in ("group", "client"):
        if field in after and field in before and after[field] != before[field]:
            yield FieldError(f"spec.{field}", INVALID, "must not change; delete the object, and create another")


@cache
def _info(type_: type) -> inspect.Type:
    return inspect.type_info(type_)


def _walk(value: Any, info: inspect.Type, path: str) -> Iterator[FieldError]:
    """The errors of a value and of what is in it; values of the wrong type are skipped."""
    match info:
        case inspect.UnionType():
            (option,) = (option for option in info.types if not isinstance(option, inspect.NoneType))
            yield from _walk(value, option, path)
        case inspect.Metadata():
            yield from _limits(value, info.extra_json_schema or {}, path)
            for rule in (info.extra or {}).get("rules", ()):
                if isinstance(value, str) and value and not rule.holds(value):
                    yield FieldError(path, INVALID, f"{show(value)} {rule.message}")
            yield from _walk(value, info.type, path)
        case inspect.ListType():
            for index, item in enumerate(value if isinstance(value, list) else ()):
                yield from _walk(item, info.item_type, f"{path}[{index}]")
        case inspect.DictType():
            for key, item in value.items() if isinstance(value, dict) else ():
                yield from _walk(item, info.value_type, f"{path}[{show(key)}]")
        case inspect.StructType() if isinstance(value, dict) and info.cls is not ObjectMeta:
            yield from _struct(value, info, path)


def _struct(value: dict[str, Any], info: inspect.StructType, path: str) -> Iterator[FieldError]:
    for field in info.fields:
        where = f"{path}.{field.encode_name}" if path else field.encode_name
        if value.get(field.encode_name) is not None:
            yield from _walk(value[field.encode_name], field.type, where)
        elif isinstance(field.type, inspect.Metadata) and (field.type.extra or {}).get("required"):
            yield FieldError(where, REQUIRED, "missing; set it")
    if rules := RULES.get(info.cls):
        try:
            typed = msgspec.convert(without_nulls(value), info.cls)
        except (msgspec.ValidationError, RecursionError):
            return  # wrong types, reported as such
        for rule in rules:
            if not rule.holds(typed):
                yield FieldError(path + rule.field, INVALID, rule.message)


def _limits(value: Any, schema: dict[str, Any], path: str) -> Iterator[FieldError]:
    """The errors of a value according to the keywords of its schema."""
    if isinstance(value, str):
        yield from _text_limits(value, schema, path)
    elif isinstance(value, int) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            what = "is not a port" if (low, high) == (1, 65535) else "is out of range"
            yield FieldError(path, INVALID, f"{show(value)} {what}; use {low} to {high}")
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield FieldError(path, REQUIRED, f"too few; list at least {schema['minItems']}")
        if len(value) > schema.get("maxItems", len(value)):
            yield FieldError(path, TOO_MANY, f"{len(value)} are too many; list at most {schema['maxItems']}")
        elif keys := schema.get("x-kubernetes-list-map-keys"):
            yield from _duplicates(value, keys, path)
    elif isinstance(value, dict) and len(value) > schema.get("maxProperties", len(value)):
        yield FieldError(path, TOO_MANY, f"{len(value)} are too many; use at most {schema['maxProperties']}")


def _text_limits(value: str, schema: dict[str, Any], path: str) -> Iterator[FieldError]:
    if "enum" in schema and value not in schema["enum"]:
        choices = schema["enum"]
        words = " or ".join(part for part in (", ".join(choices[:-1]), choices[-1]) if part)
        yield FieldError(path, NOT_SUPPORTED, f"{show(value)} is not supported; use {words}")
    if len(value) < schema.get("minLength", 0):
        what = f"{show(value)} is too short; use at least {schema['minLength']} characters"
        yield FieldError(path, INVALID, what if value else "empty; set it, or remove the field")
    if len(value) > schema.get("maxLength", len(value)):
        message = f"{len(value)} characters are too many; use at most {schema['maxLength']}"
        yield FieldError(path, TOO_LONG, message)


def _duplicates(items: list[Any], keys: list[str], path: str) -> Iterator[FieldError]:
    """The errors of a list whose items must be unique by `keys`."""
    seen = Once()
    for index, item in enumerate(items):
        if isinstance(item, dict):
            found = [item.get(key) for key in keys]
            if all(isinstance(one, str | int) for one in found):
                what = "/".join(show(one) for one in found)
                advice = "change or remove one"
                yield from seen.check(f"{path}[{index}]", tuple(found), what, advice)
