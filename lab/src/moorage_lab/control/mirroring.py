"""The slices that mirror `Endpoints`, as the endpointslicemirroring controller writes them."""

from moorage.api.core_v1 import Endpoints
from moorage.api.discovery_v1 import MANAGED_BY_LABEL, SERVICE_NAME_LABEL
from moorage.api.mirroring import mirrored
from moorage_lab.control.slices import Wanted, owner_of

MANAGED_BY = "endpointslicemirroring-controller.k8s.io"


def wanted(endpoints: Endpoints) -> Wanted:
    """The content of the mirrored slices: one group for each family and set of ports; nothing without addresses."""
    labels = {
        **(endpoints.metadata.labels or {}),
        SERVICE_NAME_LABEL: endpoints.metadata.name,
        MANAGED_BY_LABEL: MANAGED_BY,
    }
    owner = owner_of("v1", "Endpoints", endpoints.metadata)
    return Wanted(owner, endpoints.metadata.namespace or "", labels, mirrored(endpoints))
