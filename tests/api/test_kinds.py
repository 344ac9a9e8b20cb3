"""The kinds: where the API has them, what people call them, and what all their structs have in common."""

import inspect
import pkgutil
from importlib import import_module

import pytest

from moorage import api
from moorage.api.kinds import KINDS, find_kind, kind_of, named
from moorage.api.meta import Object, Resource

RESOURCES: list[type[Resource]] = sorted(
    {
        one
        for module in pkgutil.iter_modules(api.__path__, "moorage.api.")
        for one in vars(import_module(module.name)).values()
        if isinstance(one, type) and issubclass(one, Resource) and one is not Resource
    },
    key=lambda each: each.__name__,
)
resources = pytest.mark.parametrize("type_", RESOURCES)


@pytest.mark.parametrize(
    ("kind", "asked", "path"),
    [
        ("Service", (), "/api/v1/services"),
        ("Service", ("frontend",), "/api/v1/namespaces/frontend/services"),
        ("Service", ("frontend", "backend"), "/api/v1/namespaces/frontend/services/backend"),
        ("Service", ("frontend", "backend", "status"), "/api/v1/namespaces/frontend/services/backend/status"),
        ("Node", (None, "node-1"), "/api/v1/nodes/node-1"),
        ("Node", ("frontend", "node-1"), "/api/v1/nodes/node-1"),
        ("EndpointSlice", ("frontend",), "/apis/discovery.k8s.io/v1/namespaces/frontend/endpointslices"),
    ],
)
def test_a_path_is_that_of_the_kubernetes_api(kind: str, asked: tuple[str | None, ...], path: str) -> None:
    (found,) = (each for each in KINDS if each.kind == kind)
    assert found.path(*asked) == path


def test_all_but_what_a_cluster_has_once_is_in_namespaces() -> None:
    assert {each.kind for each in KINDS if not each.namespaced} == {"Namespace", "Node", "ServiceCIDR"}


@pytest.mark.parametrize("word", ["svc", "service", "services", "Service", "services.v1.", "SVC"])
def test_a_kind_is_meant_by_any_of_its_names(word: str) -> None:
    assert named(word) == find_kind("v1", "Service")
    assert named(f"no{word}") is None


def test_a_kind_is_found_by_what_a_manifest_and_what_a_struct_says() -> None:
    for kind in KINDS:
        assert find_kind(kind.api_version, kind.kind) is kind
        assert kind_of(kind.type) is kind
    assert find_kind("v2", "Service") is None
    with pytest.raises(KeyError):
        kind_of(Object)


@resources
def test_nobody_changes_an_object_that_many_read(type_: type[Resource]) -> None:
    assert type_.__struct_config__.frozen


@resources
def test_fields_are_given_by_their_names(type_: type[Resource]) -> None:
    assert {each.kind for each in inspect.signature(type_).parameters.values()} <= {inspect.Parameter.KEYWORD_ONLY}


@resources
def test_the_garbage_collector_does_not_walk_through_what_a_process_holds(type_: type[Resource]) -> None:
    assert not type_.__struct_config__.gc


@resources
def test_what_is_written_has_the_names_of_json_and_no_defaults(type_: type[Resource]) -> None:
    assert type_.__struct_config__.omit_defaults
    assert not any("_" in name for name in type_.__struct_encode_fields__)
