"""What Services say of themselves."""

import pytest

from moorage.api.core_v1 import ServiceSpec


@pytest.mark.parametrize(
    ("one", "every", "found"),
    [
        ("10.96.0.1", ["10.96.0.1", "2001:db8::1"], ["10.96.0.1", "2001:db8::1"]),
        ("10.96.0.1", None, ["10.96.0.1"]),
        ("None", ["None"], []),
        ("None", None, []),
        ("", [""], []),
        (None, None, []),
    ],
)
def test_every_cluster_ip_is_found_and_a_headless_service_has_none(
    one: str | None, every: list[str] | None, found: list[str]
) -> None:
    assert ServiceSpec(cluster_ip=one, cluster_ips=every).every_cluster_ip == found
