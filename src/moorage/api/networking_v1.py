"""`networking.k8s.io/v1`: ServiceCIDR (KEP-1880), the ranges that cluster IPs come from."""

from msgspec import field

from moorage.api.meta import Condition, Object, Resource


class ServiceCIDRSpec(Resource, kw_only=True, frozen=True):
    cidrs: list[str] = field(default_factory=list)


class ServiceCIDRStatus(Resource, kw_only=True, frozen=True):
    conditions: list[Condition] | None = None


class ServiceCIDR(Object, kw_only=True, frozen=True):
    spec: ServiceCIDRSpec = ServiceCIDRSpec()
    status: ServiceCIDRStatus = ServiceCIDRStatus()
