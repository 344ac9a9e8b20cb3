"""What an object of the API comes to in a history. Pure."""

from collections.abc import Iterable

from e2e.churn import history
from moorage.api.core_v1 import Pod
from moorage.api.discovery_v1 import EndpointSlice
from moorage.api.moorage_v1alpha1 import ExternalService, MooringConfig
from moorage.api.moorings_v1alpha1 import Mooring


def spec_of(at: float, xsvc: ExternalService) -> history.Spec:
    """Of one whose endpoints have addresses and names."""
    spec, status = xsvc.spec, xsvc.status
    config = spec.session_affinity_config
    mooring = (config.mooring if config else None) or MooringConfig()
    addresses = [address for source in spec.endpoints or () for address in source.addresses or ()]
    return history.Spec(
        at=at,
        service=xsvc.metadata.name,
        kind=mooring.client,
        weights={each.name or each.address: each.weight or 1 for each in addresses},
        proxy="moorage" if spec.proxy == "moorage" else "kube-proxy",
        drained=sorted(each.endpoint for each in spec.drain or ()),
        returns=mooring.on_recovery == "Return",
        taking=sorted(each.name for each in status.endpoints or () if each.health == "Healthy" and each.ready),
    )


def slices_of(at: float, service: str, slices: Iterable[EndpointSlice]) -> history.Slices:
    """What all slices of a Service come to. An endpoint that moves between two is in both for a moment."""
    serving, ready = set[str](), set[str]()
    for each in slices:
        for endpoint in each.endpoints or ():
            name, conditions = endpoint.hostname or endpoint.addresses[0], endpoint.conditions
            if conditions.ready is not False:
                ready.add(name)
            if name in ready or conditions.serving is not False:
                serving.add(name)
    return history.Slices(at=at, service=service, serving=sorted(serving), ready=sorted(ready))


def pod_of(at: float, pod: Pod, gone: bool = False) -> history.Pod:
    meta, status = pod.metadata, pod.status
    return history.Pod(
        at=at,
        uid=meta.uid or "",
        name=meta.name,
        node=pod.spec.node_name or "",
        address=status.pod_ip or "",
        life="gone"
        if gone
        else "finished"
        if status.finished
        else "ending"
        if meta.deletion_timestamp
        else "present",
    )


def mooring_of(at: float, mooring: Mooring, gone: bool = False) -> history.Mooring:
    spec, status = mooring.spec, mooring.status
    return history.Mooring(
        at=at,
        service=spec.group,
        client=f"{spec.client.kind}/{spec.client.name}",
        requested=spec.endpoint,
        endpoint=status.endpoint or "",
        reason=status.reason or "",
        previous=status.previous or "",
        home=status.home or "",
        refused=bool(status.message),
        gone=gone,
    )
