"""The `addresses` source: endpoints that a person wrote down."""

from collections.abc import Iterable

from moorage.api.addresses import canonical
from moorage.api.moorage_v1alpha1 import StaticAddress
from moorage.core.model import Found
from moorage.core.names import of_address
from moorage.errors import MoorageError


def found(addresses: Iterable[StaticAddress]) -> tuple[Found, ...]:
    """The endpoints that these are, in their order.

    What is no address, or is written in a way that programs read differently, stays as it is: the gate refuses it.
    """
    return tuple(_found(each) for each in addresses)


def _found(written: StaticAddress) -> Found:
    try:
        address = canonical(written.address)
    except MoorageError:
        address = written.address
    return Found(written.name or of_address(address), address, written.port, written.weight or 1)
