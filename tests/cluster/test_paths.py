from typing import Any

import pytest

from moorage.api.core_v1 import Namespace, Service
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.kinds import kind_of
from moorage.cluster.paths import collection_path, creation_path, manifest_path, object_path, with_type
from moorage.errors import MoorageError


def test_objects_have_paths_of_their_group_and_namespace() -> None:
    assert object_path(kind_of(Service), "n", "a", "status") == "/api/v1/namespaces/n/services/a/status"
    assert object_path(kind_of(Namespace), None, "a") == "/api/v1/namespaces/a"
    assert collection_path(kind_of(EndpointSlice), None) == "/apis/discovery.k8s.io/v1/endpointslices"
    assert creation_path(kind_of(EndpointSlice), "n") == "/apis/discovery.k8s.io/v1/namespaces/n/endpointslices"


@pytest.mark.parametrize("bad", ["", ".", "..", "a/b", "a%2Fb", "a?b", "a#b", "a b", "a\nb"])
def test_nothing_that_would_lead_elsewhere_gets_into_a_path(bad: str) -> None:
    kind = kind_of(Service)
    wrong = pytest.raises(MoorageError, match=r"^Service: metadata\.(name|namespace): ")
    with wrong:
        object_path(kind, "n", bad)
    with wrong:
        object_path(kind, bad, "a")
    with wrong:
        collection_path(kind, bad)
    with wrong:
        creation_path(kind, bad)


@pytest.mark.parametrize(
    "manifest",
    [
        {},
        {"apiVersion": "v1", "kind": "Service"},
        {"apiVersion": "v1", "kind": "Service", "metadata": []},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": ["a"], "namespace": "n"}},
        {"apiVersion": "v1", "kind": ["Service"], "metadata": {"name": "a", "namespace": "n"}},
        {"apiVersion": None, "kind": "Service", "metadata": {"name": "a", "namespace": "n"}},
    ],
)
def test_a_manifest_that_names_no_object_is_refused(manifest: dict[str, Any]) -> None:
    with pytest.raises(MoorageError):
        manifest_path(manifest)


def test_what_a_list_leaves_out_is_put_back() -> None:
    assert (with_type(Service()).api_version, with_type(Service()).kind) == ("v1", "Service")
