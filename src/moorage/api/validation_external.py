"""Rules for ExternalService and Mooring: the same verdicts as the schema and the CEL rules of `api.crds`."""

from collections.abc import Iterator
from typing import Any

from moorage.api.validation_names import dns_1035_label, dns_subdomain, metadata
from moorage.api.validation_schema import FieldError


def external_service(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of an ExternalService."""
    yield from metadata(obj, True, dns_1035_label)


def mooring(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Mooring."""
    yield from metadata(obj, True, dns_subdomain)
