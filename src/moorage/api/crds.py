"""The CustomResourceDefinitions of `moorage.dev`, made from the structs (`apiextensions.k8s.io/v1`).

Pure. The API server and the lab's server learn all they know about these kinds from here.
"""

import inspect as python
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from msgspec import inspect

from moorage.api.external_rules import RULES
from moorage.api.kinds import KINDS, Kind
from moorage.api.meta import LabelSelector, ObjectMeta
from moorage.api.moorage_v1alpha1 import GROUP
from moorage.api.schema import Rule
from moorage.api.sources_v1alpha1 import SecretKeyReference
from moorage.api.yaml_text import dump

Json = dict[str, Any]

_ATOMIC = (LabelSelector, SecretKeyReference)
"""Structs that server-side apply replaces as a whole: halves from two managers would mean nothing together."""
_NAME_RULE: Json = {
    "rule": "self.metadata.name.matches(r'^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    "message": 'metadata.name must be a Service\'s name; use a-z, 0-9 and "-", with a letter first',
    "fieldPath": ".metadata.name",
}


class Column(NamedTuple):
    """One column of `kubectl get`."""

    name: str
    type: str
    path: str
    """JSONPath. The lab's API server knows fields and `[?(@.type=="X")]`."""
    description: str
    wide: bool = False


class Extra(NamedTuple):
    """What a definition has besides the schema."""

    columns: tuple[Column, ...]
    categories: tuple[str, ...] = ()
    name_length: int | None = None
    rules: tuple[Json, ...] = ()


def _condition(type_: str, field: str) -> str:
    return f'.status.conditions[?(@.type=="{type_}")].{field}'


_FIRST_FALSE = '.status.conditions[?(@.status=="False")]'
"""In the order in which the operator writes them, the cause before its consequence."""
_AGE = Column("Age", "date", ".metadata.creationTimestamp", "Time since the object was created.")
_EXTRAS = {
    "ExternalService": Extra(
        columns=(
            Column("Healthy", "string", ".status.healthy", "Healthy endpoints, of all."),
            Column("Ready", "string", _condition("Ready", "status"), "Whether clients are served."),
            Column("Reason", "string", _condition("Ready", "reason"), "Why it is ready, or not."),
            Column("Spec", "string", _condition("Accepted", "reason"), "Whether all it asks for can be done."),
            Column("Sources", "string", _condition("Resolved", "reason"), "Whether its sources answer."),
            Column("Checks", "string", _condition("Healthy", "reason"), "What the health checks say."),
            Column("Failing", "date", _FIRST_FALSE + ".lastTransitionTime", "For how long there has been a problem."),
            _AGE,
            Column("Affinity", "string", ".spec.sessionAffinity", "What keeps a client at its endpoint.", wide=True),
            Column("Proxy", "string", ".spec.proxy", "Who carries the packets.", wide=True),
            Column("Problem", "string", _FIRST_FALSE + ".message", "What the first problem is.", wide=True),
        ),
        # Like Services: people on call list these first.
        categories=("all",),
        name_length=63,
        rules=(_NAME_RULE,),
    ),
    "Mooring": Extra(
        columns=(
            Column("Kind", "string", ".spec.client.kind", "What kind of client."),
            Column("Client", "string", ".spec.client.name", "Who is moored."),
            Column("Endpoint", "string", ".spec.endpoint", "Where."),
            Column("Since", "date", ".status.since", "For how long."),
            Column("Reason", "string", ".status.reason", "Why it is there."),
            Column("Previous", "string", ".status.previous", "Where it was before."),
            # The object's name begins with it.
            Column("Group", "string", ".spec.group", "The group of ExternalServices.", wide=True),
            Column("Home", "string", ".status.home", "Where it returns to.", wide=True),
            Column("Problem", "string", ".status.message", "Why it is not where spec.endpoint says.", wide=True),
            _AGE._replace(wide=True),
        ),
    ),
}


@cache
def definition(kind: Kind) -> Json:
    """The CustomResourceDefinition of a kind of `moorage.dev`; KeyError for others. Do not change the result."""
    extra = _EXTRAS[kind.kind]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": kind.resource},
        "spec": {
            "group": kind.group,
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": list(kind.short_names),
                **({"categories": list(extra.categories)} if extra.categories else {}),
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [
                {
                    "name": kind.version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema(kind)},
                    "subresources": {name: {} for name in kind.subresources},
                    "additionalPrinterColumns": [_column(column) for column in extra.columns],
                }
            ],
        },
    }


def custom_kinds() -> list[Kind]:
    """The kinds that have a definition."""
    return [kind for kind in KINDS if kind.group == GROUP]


def manifest() -> str:
    """All definitions as YAML, for `kubectl apply`."""
    texts = [dump(definition(kind), width=110) for kind in custom_kinds()]
    return "# Printed by `moorage crds`; change src/moorage/api/moorage_v1alpha1.py instead.\n" + "---\n".join(texts)


def _column(column: Column) -> Json:
    found = {"name": column.name, "type": column.type, "description": column.description, "jsonPath": column.path}
    return {**found, "priority": 1} if column.wide else found


# --- Schema ------------------------------------------------------------------------------------------------------


@cache
def schema(kind: Kind) -> Json:
    """The structural OpenAPI v3 schema of a kind of `moorage.dev`. Do not change the result."""
    extra = _EXTRAS[kind.kind]
    info = inspect.type_info(kind.type)
    assert isinstance(info, inspect.StructType)
    made = _struct(info)
    made["properties"] = {
        "apiVersion": {"type": "string", "description": f"{kind.api_version}."},
        "kind": {"type": "string", "description": f"{kind.kind}."},
        "metadata": {"type": "object"},
        **{name: part for name, part in made["properties"].items() if name in ("spec", "status")},
    }
    if extra.name_length:
        made["properties"]["metadata"]["properties"] = {"name": {"type": "string", "maxLength": extra.name_length}}
    if extra.rules:
        made["x-kubernetes-validations"] = list(extra.rules)
    return made


def _struct(info: inspect.StructType, in_list: bool = False) -> Json:
    made: Json = {"type": "object", "description": python.cleandoc(info.cls.__dict__.get("__doc__") or "")}
    fields = [field for field in info.fields if field.type is not None and not _is_metadata(field)]
    if needed := [field.encode_name for field in fields if field.required or _asked(field.type).required]:
        made["required"] = needed
    if fields:
        made["properties"] = {field.encode_name: _field(field, in_list) for field in fields}
    if info.cls in _ATOMIC:
        made["x-kubernetes-map-type"] = "atomic"
    return made | _validations(RULES.get(info.cls, ()))


def _is_metadata(field: inspect.Field) -> bool:
    return isinstance(field.type, inspect.StructType) and field.type.cls is ObjectMeta


def _field(field: inspect.Field, in_list: bool) -> Json:
    made = _type(field.type, in_list)
    # False, empty text and an empty object mean the same as an absent field, so these defaults are left out.
    if isinstance(field.default, str | int) and field.default is not False and field.default != "":
        # Argo CD compares lists as a whole: a default inside one would make every object differ from its manifest.
        if not in_list:
            made["default"] = field.default
        # `kubectl explain` shows enums, not defaults.
        made["description"] += f" Default: {field.default}."
    return made


def _type(info: inspect.Type, in_list: bool) -> Json:
    match info:
        case inspect.Metadata():
            inner, asked = _type(info.type, in_list), _asked(info)
            said = dict(info.extra_json_schema or {})
            own = said.pop("description")
            inners = inner.pop("description", own)
            description = own if inners == own else f"{own} {inners}"
            rules = inner.pop("x-kubernetes-validations", [])
            rules += _validations(asked.rules, of_text=inner["type"] == "string").get("x-kubernetes-validations", [])
            return {
                "description": description,
                **inner,
                **said,
                **({"x-kubernetes-validations": rules} if rules else {}),
            }
        case inspect.UnionType():
            (option,) = [option for option in info.types if not isinstance(option, inspect.NoneType)]
            return _type(option, in_list)
        case inspect.StructType():
            return _struct(info, in_list)
        case inspect.ListType():
            return {"type": "array", "items": _type(info.item_type, in_list=True)}
        case inspect.DictType():
            return {"type": "object", "additionalProperties": _type(info.value_type, in_list)}
        case inspect.BoolType():
            return {"type": "boolean"}
        case inspect.IntType():
            return {"type": "integer"}
        case inspect.StrType():
            return {"type": "string"}
    raise TypeError(f"{info} has no schema")


class _Asked(NamedTuple):
    rules: tuple[Rule, ...] = ()
    required: bool = False


def _asked(info: inspect.Type) -> _Asked:
    """What `schema.doc` recorded besides the schema's keywords."""
    return _Asked(**(info.extra or {})) if isinstance(info, inspect.Metadata) else _Asked()


def _validations(rules: tuple[Rule, ...], *, of_text: bool = False) -> Json:
    made: list[Json] = []
    for rule in rules:
        part = {"rule": rule.cel, "message": rule.message}
        if rule.field:
            part["fieldPath"] = rule.field
        if of_text:
            # The server shows a text that it refuses as "string". It leaves out what cannot stand in a message.
            part["messageExpression"] = "self + " + _quoted(f" {rule.message}")
        made.append(part)
    return {"x-kubernetes-validations": made} if made else {}


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def walk(part: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every part of a schema with its path, such as `.spec.ports[].port`, from the root down."""
    yield path, part
    for name, inner in part.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    for keyword, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if keyword in part:
            yield from walk(part[keyword], path + suffix)
