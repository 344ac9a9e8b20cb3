"""Checks the shape of an object against the struct of its kind: types, and missing or unknown fields."""

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from msgspec import inspect

from moorage.api import apps_v1, batch_v1, core_v1
from moorage.api.meta import Object
from moorage.api.show import show


class FieldError(NamedTuple):
    """One problem with one field of an object."""

    path: str
    """In upstream's form: `spec.ports[0].port`."""
    kind: str
    """One of the constants below: upstream's ErrorType (apimachinery's `field` package), a Status cause's reason."""
    message: str
    """What is wrong and what to do, without the path: `99999 is not a port; use 1 to 65535`."""

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


INVALID = "FieldValueInvalid"
REQUIRED = "FieldValueRequired"
DUPLICATE = "FieldValueDuplicate"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
WRONG_TYPE = "FieldValueTypeInvalid"
UNKNOWN = "FieldUnknown"
"""Not upstream's, which refuses unknown fields while decoding (`fieldValidation=Strict`), without a cause."""

PARTIAL: frozenset[type] = frozenset(
    {
        core_v1.Container,
        core_v1.ContainerPort,
        core_v1.EnvVar,
        core_v1.Event,
        core_v1.NodeSpec,
        core_v1.NodeStatus,
        core_v1.PodIP,
        core_v1.PodSpec,
        core_v1.PodStatus,
        apps_v1.DeploymentStatus,
        apps_v1.StatefulSetSpec,
        apps_v1.StatefulSetStatus,
        batch_v1.Job,
    }
)
"""Structs that type only a part of their schema, so that a field they do not know may still be valid."""

_INT64 = range(-(2**63), 2**63)


def shape_errors(obj: dict[str, Any], type_: type[Object]) -> list[FieldError]:
    """Every field of `obj` that has the wrong type, is missing though the struct needs it, or is unknown (`UNKNOWN`).

    Null counts as absent, as when Kubernetes reads JSON. What is below a field of the wrong type is not checked.
    """
    return list(_walk(obj, _info(type_), ""))


def without_nulls(value: Any) -> Any:
    """`value` without the keys whose value is null: Kubernetes does that with `creationTimestamp: null`."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


@cache
def _info(type_: type[Object]) -> inspect.Type:
    return inspect.type_info(type_)


def _walk(value: Any, info: inspect.Type, path: str) -> Iterator[FieldError]:
    if isinstance(info, inspect.Metadata):  # description and limits are not part of the shape
        yield from _walk(value, info.type, path)
    elif isinstance(info, inspect.UnionType):
        fitting = [option for option in info.types if _fits(value, option)]
        if not fitting:
            options = [option for option in info.types if not isinstance(option, inspect.NoneType)]
            yield _wrong_type(value, options, path)
        elif not isinstance(fitting[0], inspect.NoneType):
            yield from _walk(value, fitting[0], path)
    elif not _fits(value, info):
        yield _wrong_type(value, [info], path)
    elif isinstance(info, inspect.StructType):
        yield from _walk_struct(value, info, path)
    elif isinstance(info, inspect.ListType):
        for index, item in enumerate(value):
            yield from _walk(item, info.item_type, f"{path}[{index}]")
    elif isinstance(info, inspect.DictType):
        for key, item in value.items():
            if item is not None:
                yield from _walk(item, info.value_type, f"{path}[{show(key)}]")
    elif isinstance(info, inspect.IntType) and value not in _INT64:
        yield FieldError(path, INVALID, f"{show(value)} does not fit into 64 bits; use a smaller number")


def _walk_struct(value: dict[str, Any], info: inspect.StructType, path: str) -> Iterator[FieldError]:
    fields = {field.encode_name: field for field in info.fields}
    for name, field in fields.items():
        if value.get(name) is not None:
            yield from _walk(value[name], field.type, _join(path, name))
        elif field.required:
            yield FieldError(_join(path, name), REQUIRED, "missing; set it")
    if info.cls not in PARTIAL:
        for key in value:
            if key not in fields and value[key] is not None:
                yield FieldError(_join(path, show(key)), UNKNOWN, f"unknown field; {_advice(key, list(fields))}")


def _advice(key: object, known: list[str]) -> str:
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(str(key)[:80].lower(), lowered, n=1, cutoff=0.7)
    return f"did you mean {lowered[close[0]]}?" if close else f"remove it, or use one of: {', '.join(sorted(known))}"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fits(value: Any, info: inspect.Type) -> bool:
    match info:
        case inspect.NoneType():
            return value is None
        case inspect.StrType():
            return isinstance(value, str)
        case inspect.BoolType():
            return isinstance(value, bool)
        case inspect.IntType():
            return isinstance(value, int) and not isinstance(value, bool)
        case inspect.ListType():
            return isinstance(value, list)
        case inspect.DictType() | inspect.StructType():
            return isinstance(value, dict) and all(isinstance(key, str) for key in value)
        case _:
            return True  # object: anything


_NAMES: dict[type[inspect.Type], str] = {
    inspect.StrType: "text",
    inspect.BoolType: "true or false",
    inspect.IntType: "a whole number",
    inspect.ListType: "a list",
    inspect.DictType: "a mapping",
    inspect.StructType: "a mapping",
}


def _wrong_type(value: Any, expected: list[inspect.Type], path: str) -> FieldError:
    wanted = " or ".join(dict.fromkeys(_NAMES.get(type(option), "another type") for option in expected))
    shown = f'"{value}"' if isinstance(value, str) and show(value) == value else show(value)
    message = f"{shown} is not {wanted}; "
    if isinstance(value, bool | int | float) and wanted == "text":
        message += "put it in quotes"
    elif isinstance(value, str) and wanted in ("a whole number", "true or false"):
        message += "write it without quotes" if _would_fit_unquoted(value, wanted) else f"write {wanted}"
    else:
        message += f"write {wanted}"
    return FieldError(path, WRONG_TYPE, message)


def _would_fit_unquoted(value: str, wanted: str) -> bool:
    return value in ("true", "false") if wanted == "true or false" else value.isascii() and value.isdigit()
