"""Whatever spec the schema lets in, or an older one let in, can be decided on; what comes of it can be stored."""

import random
from typing import Any

import msgspec
import pytest

from moorage.api.moorage_v1alpha1 import ExternalService
from moorage.api.sources_v1alpha1 import EndpointSource
from moorage.api.validation import validate, without_nulls
from moorage.core.admission import gate_of
from moorage.core.decide import decide
from moorage.core.model import Create, Found, Resolution
from moorage.core.snapshot import Snapshot
from moorage.discovery import addresses
from testing.bad_externals import FULL, damaged

NOW = "2026-01-01T00:00:00Z"
SPECS = [obj for obj in FULL if obj["kind"] == "ExternalService"]


def specs(seed: int, count: int) -> list[dict[str, Any]]:
    random_ = random.Random(seed)
    found = [damaged(random_.choice(SPECS), random_) for _ in range(count)]
    for obj in found:
        obj["metadata"] |= {"namespace": "frontend", "uid": "u", "resourceVersion": "1", "generation": 1}
        # Suspended, nothing would be decided.
        if isinstance(obj["spec"].get("suspend"), bool):
            del obj["spec"]["suspend"]
    return found


def resolution(source: EndpointSource) -> Resolution:
    if source.addresses is not None:
        return Resolution("addresses", addresses.found(source.addresses))
    found = Found("db1", "198.51.100.7", 8080 if source.dns and source.dns.type == "SRV" else None)
    return Resolution("another", (found, Found("db2", "2001:db8::7", priority=1)))


@pytest.mark.parametrize("seed", range(4))
def test_every_spec_comes_to_a_decision_and_a_valid_one_to_objects_that_are_accepted(seed: int) -> None:
    decided = 0
    for obj in specs(seed, 500):
        valid = not validate(obj, strict=True)
        try:
            xsvc = msgspec.convert(without_nulls(obj), ExternalService)
        except msgspec.ValidationError:
            assert not valid, obj
            continue
        resolutions = [resolution(source) for source in xsvc.spec.endpoints or ()]
        decision = decide(Snapshot(xsvc, resolutions, gate_of(), NOW).merge())
        assert decision.status.conditions, obj
        if valid:
            decided += 1
            written = [msgspec.to_builtins(write.obj) for write in decision.writes if isinstance(write, Create)]
            assert written[0]["kind"] == "Service", obj
            assert [error for each in written for error in validate(each, strict=True)] == [], obj
            assert validate({**obj, "status": msgspec.to_builtins(decision.status)}, strict=True) == []
    assert decided > 20
