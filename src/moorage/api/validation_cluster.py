"""Rules for Secret, Lease and ServiceCIDR (upstream: pkg/apis/{core,coordination,networking}/validation)."""

import binascii
import re
from base64 import b64decode
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from moorage.api.show import show
from moorage.api.validation_names import (
    Once,
    dns_subdomain,
    mapping,
    metadata,
    number,
    required,
    text,
    texts,
)
from moorage.api.validation_schema import FORBIDDEN, INVALID, TOO_LONG, TOO_MANY, FieldError
from moorage.api.validation_services import cidr

_MAX_SECRET_BYTES = 1024 * 1024
"""All values of a Secret together, decoded."""
_KEY = re.compile(r"[-._a-zA-Z0-9]+")


def secret(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Secret. Upstream refuses invalid base64 while decoding; here it is an error like any other."""
    yield from metadata(obj, True, dns_subdomain)
    size = 0
    for field in ("data", "stringData"):
        for key, value in mapping(obj, field).items():
            path = f"{field}[{show(key)}]"
            if len(key) > 253 or not _KEY.fullmatch(key) or key in (".", "..") or key.startswith("..") or not key:
                message = 'not a key; use at most 253 letters, digits, "-", "_" and ".", such as kubeconfig or ca.crt'
                yield FieldError(path, INVALID, message)
            if not isinstance(value, str):
                continue
            try:
                size += len(_decoded(value) if field == "data" else value.encode(errors="replace"))
            except (binascii.Error, ValueError):
                yield FieldError(path, INVALID, "not base64; encode the value, or put it into stringData as it is")
    if size > _MAX_SECRET_BYTES:
        yield FieldError("data", TOO_LONG, f"{size} bytes are too many; use at most {_MAX_SECRET_BYTES}")


def _decoded(value: str) -> bytes:
    # Go's encoding/base64 ignores line breaks, which the base64 program writes.
    return b64decode(value.replace("\r", "").replace("\n", ""), validate=True)


def secret_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of a Secret: of its type, and of anything once it is immutable."""
    if (text(new, "type") or "Opaque") != (text(old, "type") or "Opaque"):
        yield FieldError("type", INVALID, "may not change; delete the Secret and create it again")
    if old.get("immutable") is True:
        if new.get("immutable") is not True:
            yield FieldError("immutable", FORBIDDEN, "may not be unset; delete the Secret and create it again")
        if mapping(new, "data") != mapping(old, "data"):
            yield FieldError(
                "data", FORBIDDEN, "may not change, the Secret is immutable; delete it and create it again"
            )


def lease(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a Lease."""
    yield from metadata(obj, True, dns_subdomain)
    spec = mapping(obj, "spec")
    for key, lowest in (("leaseDurationSeconds", 1), ("leaseTransitions", 0)):
        value = number(spec, key)
        if value is not None and not lowest <= value < 2**31:
            yield FieldError(f"spec.{key}", INVALID, f"{show(value)} is out of range; use {lowest} or more")


def service_cidr(obj: dict[str, Any]) -> Iterator[FieldError]:
    """The errors of a ServiceCIDR."""
    yield from metadata(obj, False, dns_subdomain)
    spec = mapping(obj, "spec")
    yield from required("spec.cidrs", spec.get("cidrs"), "list one range of addresses, or one of each IP family")
    found, families = list(texts(spec, "cidrs", "spec")), Once()
    if len(found) > 2:
        yield FieldError("spec.cidrs", TOO_MANY, f"{len(found)} ranges; use at most one of each IP family")
        return
    for path, value in found:
        errors = list(cidr(path, value))
        yield from errors
        if not errors:
            version = f"IPv{ip_network(value, strict=False).version}"
            yield from families.check(path, version, f"an {version} range", "use one of each IP family")


def service_cidr_update(new: dict[str, Any], old: dict[str, Any]) -> Iterator[FieldError]:
    """Forbidden changes of a ServiceCIDR: of the ranges that it has. One of the other family may be added."""
    before = [value for _, value in texts(mapping(old, "spec"), "cidrs", "spec")]
    after = [value for _, value in texts(mapping(new, "spec"), "cidrs", "spec")]
    if after[: len(before)] != before:
        yield FieldError("spec.cidrs", INVALID, "may not change; create another ServiceCIDR")
