"""The `addresses` source: endpoints that are written in the spec."""

from collections.abc import Iterable

from moorage.api.addresses import canonical
from moorage.api.sources_v1alpha1 import StaticAddress
from moorage.core.model import Found
from moorage.core.names import of_address
from moorage.errors import MoorageError


def found(addresses: Iterable[StaticAddress]) -> tuple[Found, ...]:
    """The endpoints of these entries, in order.

    Text that is no address, or that programs read differently, stays as it is; the gate refuses it.
    """
    return tuple(_found(each) for each in addresses)


def _found(written: StaticAddress) -> Found:
    try:
        address = canonical(written.address)
    except MoorageError:
        address = written.address
    return Found(
        written.name or of_address(address), address, written.port, written.weight or 1, zone=written.zone or ""
    )
