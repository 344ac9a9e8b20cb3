"""The structs against Kubernetes' own schemas: what a strict check calls unknown must be unknown upstream."""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from msgspec import inspect

from moorage.api.kinds import KINDS, Kind
from moorage.api.moorage_v1alpha1 import GROUP
from moorage.api.validation_schema import PARTIAL, shape_errors

SCHEMAS = Path(kubernetes_validate.__file__).with_name("kubernetes-json-schema") / "v1.37.0-local"
IGNORED = {
    "DeploymentSpec": {"minReadySeconds", "paused", "progressDeadlineSeconds", "revisionHistoryLimit", "strategy"},
    "DeploymentStatus": {"unavailableReplicas", "updatedReplicas"},
}
"""Fields of ours that one of the kinds that share a struct does not have."""


def schema_of(kind: Kind) -> Any:
    group = f"-{kind.group.split('.')[0]}" if kind.group else ""
    return load(f"{kind.kind.lower()}{group}-{kind.version}.json")


def load(name: str) -> Any:
    return json.loads((SCHEMAS / name).read_text())


@cache
def definitions() -> Any:
    return load("_definitions.json")["$defs"]


def definition(schema: Any) -> Any:
    while "$ref" in schema:
        schema = definitions()[schema["$ref"].split("/")[-1]]
    return schema


def structs(info: inspect.Type, schema: Any, path: str) -> Iterator[tuple[str, inspect.StructType, Any]]:
    """Every struct of a type beside the properties that upstream has at that place."""
    if isinstance(info, inspect.UnionType):
        for option in info.types:
            if isinstance(option, inspect.StructType | inspect.ListType):
                yield from structs(option, schema, path)
    elif isinstance(info, inspect.ListType):
        yield from structs(info.item_type, definition(schema)["items"], path)
    elif isinstance(info, inspect.StructType):
        properties = definition(schema)["properties"]
        yield path, info, properties
        for field in info.fields:
            if field.encode_name in properties:
                yield from structs(field.type, properties[field.encode_name], f"{path}.{field.encode_name}")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.group != GROUP], ids=lambda kind: kind.kind)
def test_every_struct_knows_all_of_its_fields_or_is_called_partial(kind: Kind) -> None:
    found = list(structs(inspect.type_info(kind.type), schema_of(kind), kind.kind))
    assert found
    for path, struct, properties in found:
        known = {field.encode_name for field in struct.fields}
        assert known - set(properties) <= IGNORED.get(struct.cls.__name__, set()), path
        if struct.cls not in PARTIAL:
            assert set(properties) <= known, path


@pytest.mark.parametrize(
    ("spec", "errors"),
    [
        ({"ports": [{"port": True}]}, ["spec.ports[0].port: true is not a whole number; write a whole number"]),
        ({"ports": [{"port": "1", "name": 5}]}, [
            "spec.ports[0].name: 5 is not text; put it in quotes",
            'spec.ports[0].port: "1" is not a whole number; write it without quotes',
        ]),
        ({"ports": [{}]}, ["spec.ports[0].port: missing; set it"]),
        ({"ports": [None]}, ["spec.ports[0]: null is not a mapping; write a mapping"]),
        ({"ports": [{"port": 1, "targetPort": []}]}, [
            "spec.ports[0].targetPort: a list is not a whole number or text; write a whole number or text",
        ]),
        ({"selector": {"a": 1}}, ["spec.selector[a]: 1 is not text; put it in quotes"]),
        ({"publishNotReadyAddresses": "true"}, [
            'spec.publishNotReadyAddresses: "true" is not true or false; write it without quotes',
        ]),
    ],
)  # fmt: skip
def test_what_has_the_wrong_shape_is_named(spec: dict[Any, Any], errors: list[str]) -> None:
    (service,) = (kind for kind in KINDS if kind.kind == "Service")
    assert [str(error) for error in shape_errors({"spec": spec}, service.type)] == errors


def test_fields_with_a_description_are_looked_into() -> None:
    (external,) = (kind for kind in KINDS if kind.kind == "ExternalService")
    spec = {"ports": {}, "endpoints": [{"dns": {"name": 5}}], "proxi": 1}
    assert [str(error) for error in shape_errors({"spec": spec}, external.type)] == [
        "spec.ports: a mapping is not a list; write a list",
        "spec.endpoints[0].dns.name: 5 is not text; put it in quotes",
        "spec.proxi: unknown field; did you mean proxy?",
    ]
