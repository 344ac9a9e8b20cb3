"""The generated definitions, as far as that can be told without an API server (e2e/test_bad_specs.py has one)."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from msgspec import inspect

from moorage.api import crds
from moorage.api.crds import Json, custom_kinds, definition, schema, walk
from moorage.api.kinds import Kind, kind_of
from moorage.api.meta import Object
from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.moorings_v1alpha1 import Mooring

FILE = Path(__file__).parents[2] / "deploy" / "crds" / "crds.yaml"
kinds = pytest.mark.parametrize("kind", custom_kinds(), ids=lambda kind: kind.kind)


def columns(kind: Kind) -> list[Json]:
    found: list[Json] = definition(kind)["spec"]["versions"][0]["additionalPrinterColumns"]
    return found


def test_the_file_to_install_is_what_the_command_prints() -> None:
    assert FILE.read_text() == crds.manifest(), "run `moorage crds > deploy/crds/crds.yaml`"
    assert [one["spec"]["names"]["kind"] for one in yaml.safe_load_all(FILE.read_text())] == [
        "ExternalService",
        "Mooring",
    ]


@kinds
def test_every_part_has_a_description(kind: Kind) -> None:
    parts = [(path, part) for path, part in walk(schema(kind)) if not path.startswith(".metadata")]
    assert len(parts) > 10
    for path, part in parts:
        assert len(part["description"]) > 4, path
        assert part["description"].endswith("."), path
        assert part["description"].isprintable(), path


@kinds
def test_every_part_says_its_type_and_nothing_is_nullable(kind: Kind) -> None:
    for path, part in walk(schema(kind)):
        assert part["type"] in ("object", "array", "string", "integer", "boolean"), path
        # With format date-time, the API server takes lists for text, which would make a list of all unreadable.
        assert not part.keys() & {"nullable", "$ref", "anyOf", "extra", "format"}, path


def plain(info: inspect.Type) -> inspect.Type:
    while isinstance(info, inspect.Metadata | inspect.UnionType | inspect.ListType):
        if isinstance(info, inspect.UnionType):
            (info,) = (option for option in info.types if not isinstance(option, inspect.NoneType))
        else:
            info = info.type if isinstance(info, inspect.Metadata) else info.item_type
    return info


def pairs(info: inspect.Type, part: Json, path: str) -> list[tuple[str, inspect.Field, Json]]:
    """Every field of a struct, at any depth, beside its part of the schema."""
    info = plain(info)
    if "items" in part:
        part, path = part["items"], f"{path}[]"
    found = []
    if isinstance(info, inspect.StructType):
        for field in info.fields:
            if field.encode_name in part.get("properties", {}):
                inner = part["properties"][field.encode_name]
                found.append((f"{path}.{field.encode_name}", field, inner))
                found += pairs(field.type, inner, f"{path}.{field.encode_name}")
    return found


@kinds
def test_a_default_is_the_structs_own(kind: Kind) -> None:
    """What a client leaves out because it is the default must mean the same to the server."""
    found = pairs(inspect.type_info(kind.type), schema(kind), "")
    assert len(found) > 10
    for path, field, part in found:
        # A status has a default for those who ask a server (testing/suites/gitops.py).
        if path in (".apiVersion", ".kind", ".metadata", ".status"):
            continue
        if "default" in part or "[]" in path:
            assert part.get("default", field.default) == field.default, path
        else:
            assert (
                not field.default
                or field.default in ("", msgspec.NODEFAULT)
                or not isinstance(field.default, str | int)
            ), path


@kinds
def test_every_field_of_the_structs_is_in_the_schema(kind: Kind) -> None:
    names = {path for path, _ in walk(schema(kind))}
    for path, _, part in pairs(inspect.type_info(kind.type), schema(kind), ""):
        assert path in names
        assert part


@kinds
def test_nothing_inside_a_list_has_a_default(kind: Kind) -> None:
    """Argo CD compares lists as a whole: what the server adds to an item would be a difference for ever."""
    assert [path for path, part in walk(schema(kind)) if "[]" in path and "default" in part] == []


def test_what_a_list_s_item_leaves_out_has_its_default_when_it_is_read() -> None:
    spec = decode(spec={"ports": [{"port": 53}], "endpoints": [{"dns": {"name": "db.example.com"}}]}).spec
    assert spec.ports[0].protocol == "TCP"
    assert spec.endpoints is not None
    assert spec.endpoints[0].dns is not None
    assert spec.endpoints[0].dns.type == "A"


def test_an_object_whose_items_were_stored_with_their_defaults_reads_the_same() -> None:
    filled = {
        "ports": [{"port": 53, "protocol": "TCP"}],
        "endpoints": [{"dns": {"name": "db.example.com", "type": "A"}}],
    }
    assert decode(spec=filled) == decode(
        spec={"ports": [{"port": 53}], "endpoints": [{"dns": {"name": "db.example.com"}}]}
    )


def test_what_server_side_apply_merges_has_its_keys() -> None:
    lists = {path: part for path, part in walk(schema(custom_kinds()[0])) if "x-kubernetes-list-map-keys" in part}
    assert {path: part["x-kubernetes-list-map-keys"] for path, part in lists.items()} == {
        ".spec.drain": ["endpoint"],
        ".status.conditions": ["type"],
        ".status.endpoints": ["name"],
    }
    for path, part in lists.items():
        items = part["items"]
        for key in part["x-kubernetes-list-map-keys"]:
            assert key in items["required"], path


@kinds
def test_what_rules_look_at_is_bounded(kind: Kind) -> None:
    """Or the API server refuses the definition for what the rules might cost."""
    for path, part in walk(schema(kind)):
        if path.startswith(".spec") and "enum" not in part:
            limit = {"string": "maxLength", "array": "maxItems"}.get(part["type"])
            assert limit is None or limit in part, path


@kinds
def test_rules_have_messages_that_say_what_must_be(kind: Kind) -> None:
    rules = [rule for _, part in walk(schema(kind)) for rule in part.get("x-kubernetes-validations", [])]
    assert rules
    for rule in rules:
        assert "must" in rule["message"], rule
        assert rule["message"].isprintable()


@kinds
def test_columns_show_fields_that_there_are(kind: Kind) -> None:
    paths = {path for path, _ in walk(schema(kind))} | {".metadata.creationTimestamp"}
    for column in columns(kind):
        path = re.sub(r'\[\?\(@\.(type|status)=="[A-Z][a-z]+"\)\]', "[]", column["jsonPath"])
        assert path in paths, column
    assert [column["name"] for column in columns(kind)].count("Age") == 1


def decode(**spec: Any) -> ExternalService:
    return msgspec.json.decode(msgspec.json.encode({"metadata": {"name": "x"}, **spec}), type=ExternalService)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"ports": []},
        {"ports": [{"port": -1, "name": "", "protocol": "SCTP", "later": True}]},
        {"endpoints": [{}, {"addresses": []}, {"addresses": [{"address": "nonsense", "port": 0, "weight": -5}]}]},
        {"endpoints": [{"dns": {"name": "", "type": "MX"}, "addresses": [], "ftp": {"later": 1}}]},
        {"healthCheck": {"tcp": {}, "http": {"path": "", "expectedStatuses": ["x"]}, "timeoutSeconds": 10**9}},
        {"sessionAffinity": "Cookie", "proxy": "other", "ipFamilies": ["IPv5"] * 9},
        {"drain": [{"endpoint": "Ä", "before": "tomorrow"}]},
    ],
)
def test_what_an_older_schema_let_in_can_be_read(spec: Json) -> None:
    """One such object must not make a list of all unreadable."""
    assert decode(spec=spec).metadata.name == "x"
    assert decode(spec=spec, status={"endpoints": [], "conditions": [{"type": "A", "status": "?"}]}).status


def test_an_object_without_spec_can_be_read() -> None:
    assert decode().spec.ports == []


def test_a_field_of_a_type_without_a_schema_is_refused() -> None:
    class Weighed(Object, kw_only=True, frozen=True):
        spec: float = 0.5

    with pytest.raises(TypeError, match=r"FloatType.* has no schema"):
        schema(kind_of(Mooring)._replace(type=Weighed))
