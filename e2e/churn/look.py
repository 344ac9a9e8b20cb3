"""What the kernel of a node holds of the Services that its agent carries."""

from collections import defaultdict
from collections.abc import Mapping

from e2e.churn.history import Kernel
from moorage.dataplane.model import ServiceAddress
from moorage.dataplane.nft import ListedElement, Nft
from moorage.dataplane.schema import OF_FAMILY, mooring_of, service_of


async def look(
    at: float, node: str, nft: Nft, services: Mapping[ServiceAddress, str], endpoints: Mapping[str, str]
) -> Kernel:
    """`services` and `endpoints` are by their addresses. Raises NftError."""
    containers = OF_FAMILY[4]
    moorings: dict[str, dict[str, str]] = {name: {} for name in services.values()}
    ready = defaultdict[str, set[str]](set)
    for each in await nft.elements(containers.moorings.name):
        key = mooring_of(containers.moorings, each.key)
        if key.service in services:
            moorings[services[key.service]][key.client] = _endpoint(each, endpoints)
    slots = containers.slots["tcp"]
    for each in await nft.elements(slots.name):
        address = service_of(slots, each.key)
        if address in services:
            ready[services[address]].add(_endpoint(each, endpoints))
    return Kernel(
        at=at,
        node=node,
        misses=await nft.packets("misses"),
        moorings=moorings,
        ready={name: sorted(found) for name, found in ready.items()},
    )


def _endpoint(element: ListedElement, endpoints: Mapping[str, str]) -> str:
    """The name of the endpoint to which an element leads; its address, where it is nobody's."""
    assert isinstance(element.value, tuple)
    address = str(element.value[0])
    return endpoints.get(address, address)
