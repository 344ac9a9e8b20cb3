import pytest
from msgspec.structs import replace

from moorage.api.core_v1 import Endpoints, Service, ServiceSpec
from moorage.api.meta import ObjectMeta
from moorage.api.mirroring import SKIP_LABEL, is_mirrored

META = ObjectMeta(name="web", namespace="ns", uid="uid-ep")
WITHOUT_SELECTOR = Service(metadata=ObjectMeta(name="web", namespace="ns"))
WITH_SELECTOR = replace(WITHOUT_SELECTOR, spec=ServiceSpec(selector={"app": "web"}))


@pytest.mark.parametrize(
    "meta",
    [
        replace(META, labels={SKIP_LABEL: "true"}),
        replace(META, annotations={"control-plane.alpha.kubernetes.io/leader": "{}"}),
        replace(META, deletion_timestamp="now"),
    ],
)
def test_who_opts_out_is_not_mirrored(meta: ObjectMeta) -> None:
    assert is_mirrored(Endpoints(metadata=META), WITHOUT_SELECTOR)
    assert not is_mirrored(Endpoints(metadata=meta), WITHOUT_SELECTOR)


def test_only_endpoints_of_a_service_without_selector_are_mirrored() -> None:
    assert not is_mirrored(Endpoints(metadata=META), WITH_SELECTOR)
    assert not is_mirrored(Endpoints(metadata=META), None)
